"""`stackyard replay`: a past lived through again by a stack of its own, and a page that says what came of it."""

from __future__ import annotations

import datetime as dt
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stackyard.cli.failures import FAILED, USAGE, Failure
from stackyard.cli.stack import StackCard, find, open_store, spec
from stackyard.data.errors import DataError

if TYPE_CHECKING:
    from stackyard.replay.driver import Replay
    from stackyard.spec import StackSpec

INTERRUPTED = 130
EMPTY_DAYS = 7
"""So many days without rows in a row end a replay that was not told where to end."""


def run(stack: str, *, until: str | None, days: int | None, sample: float, report: Path | None, as_json: bool) -> None:
    """Replay to the end, then measure and report. The last line of standard output is one JSON object."""
    from stackyard.replay.driver import Replay
    from stackyard.replay.yard import ReplayError

    card, found = find(stack), spec(stack)
    folder = Path(card.state) / "replay"
    progress = _Shown(Console(stderr=True), as_json)
    try:
        replay = Replay(found.project, found.project_folder, _yard(card), _diary(folder), sample=sample)
        replay.say = progress.say
        end = _end(until, days, replay)
        with progress:
            _live(replay, end, progress)
            line = _report(replay, found, folder, report or folder / "report.html", progress)
    except (ReplayError, DataError, OSError) as error:
        raise Failure(str(error), FAILED) from None
    except KeyboardInterrupt:
        print(f"stackyard: interrupted; `stackyard replay -s {stack}` goes on from here", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    print(json.dumps(line))


def _live(replay: Replay, end: dt.date | None, progress: _Shown) -> None:
    first = replay.diary.next_day(replay.start)
    progress.begin((end - replay.start).days if end else None, (first - replay.start).days)
    empty = 0
    progress.day(first)
    for entry in replay.days(end or dt.date.max):
        empty = 0 if entry.requests else empty + 1
        progress.day(entry.day + dt.timedelta(days=1), done=True)
        if end is None and empty == EMPTY_DAYS:
            return


def _report(replay: Replay, found: StackSpec, folder: Path, path: Path, progress: _Shown) -> dict[str, Any]:
    from stackyard.replay import charts, report
    from stackyard.replay.yardsticks import Yardsticks

    sticks = Yardsticks(
        replay.project, replay.folder, replay.yard.store, folder / "yardsticks", replay.read, progress.say
    )
    outcome = report.gather(replay, sticks)
    if not outcome.entries:
        return outcome.line(None)
    progress.say("writing the report")
    names, weeks, psi = report.drift(replay, sticks, [entry.day for entry in outcome.entries])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report.page(outcome, replay.project, found.name, replay.sample, charts.heat(names, weeks, psi)))
    return outcome.line(path.resolve())


def _yard(card: StackCard) -> Any:
    from stackyard.clock import FileClock
    from stackyard.replay.yard import Yard

    if not card.clock or not card.labels_token_path:
        raise Failure(
            f"stack {card.stack} lives in real time: a replay needs `clock: virtual` in stacks/{card.stack}.yaml", USAGE
        )
    return Yard(
        model=card.model,
        state=Path(card.state),
        store=open_store(card),
        database=card.database,
        predict=card.addresses["predict"],
        replica_ports=tuple(card.replica_ports),
        trusted=tuple(card.public_keys),
        token_path=Path(card.labels_token_path),
        clock=FileClock(Path(card.clock)),
    )


def _diary(folder: Path) -> Any:
    from stackyard.replay.diary import Diary

    return Diary(folder)


def _end(until: str | None, days: int | None, replay: Replay) -> dt.date | None:
    """The day before which to stop; None where the source says so by itself."""
    if until is not None and days is not None:
        raise Failure("--until and --days both say where to end: give one", USAGE)
    if days is not None:
        return replay.diary.next_day(replay.start) + dt.timedelta(days=days)
    if until is None:
        return None
    try:
        return dt.date.fromisoformat(until)
    except ValueError:
        raise Failure(f"--until {until}: a day, for example 2013-07-01", USAGE) from None


class _Shown:
    """Progress on standard error: which day, what is being done, how long it will take."""

    def __init__(self, console: Console, quiet: bool) -> None:
        self._bar = Progress(
            TextColumn("{task.fields[day]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("days"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[doing]}", markup=False),
            console=console,
            disable=quiet,
        )
        # Without a terminal a bar would be one line at the end: say each day instead.
        self._plain = not quiet and not console.is_terminal
        self._context = nullcontext() if self._plain else self._bar
        self._task = self._bar.add_task("replay", day="", doing="", total=None)

    def __enter__(self) -> Self:
        self._context.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(*error)  # pyright: ignore[reportArgumentType]

    def begin(self, total: int | None, done: int) -> None:
        """So many days in all, so many over."""
        self._bar.update(self._task, total=total, completed=done)

    def day(self, day: dt.date, *, done: bool = False) -> None:
        """`day` begins; the one before is over when `done`."""
        self._bar.update(self._task, day=day.isoformat(), advance=1 if done else 0)
        if self._plain and done:
            print(f"{day - dt.timedelta(days=1)} is over", file=sys.stderr, flush=True)

    def say(self, what: str) -> None:
        """What is being done."""
        self._bar.update(self._task, doing=what[:70])
