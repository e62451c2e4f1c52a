"""Trainings are asked for a checkpoint before everything is stopped, so that none has to do a step again.

They announce themselves beside the workspace and answer there (`stackyard.store.trainings`). The wait has an end: one
that does not answer, or is dead, keeps nobody from the evacuation; it goes on later from the checkpoint that it has.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from stackyard.evacuation.freezing import write_whole
from stackyard.evacuation.settings import SaverSettings
from stackyard.store import trainings

_LOOK = 0.05
"""Seconds between two looks at who has answered."""


@contextlib.contextmanager
def asked(
    settings: SaverSettings,
    *,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[list[dict[str, Any]]]:
    """Every training of the workspace has been asked, and waited for `settings.ask` seconds at the most.

    Who answered stands still until the block ends, so that what is stopped in it loses no step. Gives each with `name`,
    `step` (done), `saved` (step of its newest checkpoint) and whether it `answered`.
    """
    folder = settings.trainings or trainings.folder_of(settings.workspace)
    there = [training for _, training in trainings.announced(folder)]
    if not there or not settings.ask:
        yield _noted(settings, [_told(each, None) for each in there])
        return
    try:
        wanted = trainings.request(folder)
    except OSError:  # a full disk keeps nobody from the evacuation, and takes no checkpoint either
        yield _noted(settings, [_told(each, None) for each in there])
        return
    try:
        end = clock() + settings.ask
        while True:
            living = {(each.pid, each.start): each for _, each in trainings.announced(folder)}
            there = [living.get((each.pid, each.start), each) for each in there]
            waited = [e for e in living.values() if e.answered != wanted and e in there and not trainings.stands(e)]
            if not waited or clock() >= end:
                break
            pause(_LOOK)
        yield _noted(settings, [_told(each, wanted) for each in there])
    finally:
        trainings.withdraw(folder)


def last(settings: SaverSettings) -> list[dict[str, Any]]:
    """What came of asking, the last time."""
    try:
        return json.loads((settings.state / "asked.json").read_bytes())
    except (OSError, ValueError):
        return []


def sentences(asked: list[dict[str, Any]]) -> list[str]:
    """The same for people, a line for each training."""
    lines = []
    for each in asked:
        what = (
            "wrote a checkpoint" if each["answered"] else f"did not answer; its checkpoint is of step {each['saved']}"
        )
        lines.append(f"training {each['name']} at step {each['step']} {what}")
    return lines


def _told(training: trainings.Announced, wanted: str | None) -> dict[str, Any]:
    answered = wanted is not None and training.answered == wanted
    return {"name": training.name, "step": training.step, "saved": training.saved, "answered": answered}


def _noted(settings: SaverSettings, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    with contextlib.suppress(OSError):  # as above
        settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(settings.state / "asked.json", json.dumps(asked).encode())
    return asked
