"""What hours and money are counted from: each opening once, and an end for each, also where nobody wrote it."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from stackyard_infra.provider.usage import Usage

FIGURES = {"generation": 1, "workers": 2, "cpus": 4, "gpus": 0, "hourly_price": 0.5}
START = dt.datetime(2027, 1, 1, 12, tzinfo=dt.UTC)
Step = tuple[str, float, dict[str, Any]]


def _after(hours: float) -> dt.datetime:
    return START + dt.timedelta(hours=hours)


def _opens(hours: float, *, runs: bool, **changed: Any) -> Step:
    return "opened", hours, {"figures": FIGURES | changed, "runs": runs}


def _closes(hours: float, *, ran: bool) -> Step:
    return "closed", hours, {"ran": ran}


def _sees(hours: float, generation: int = 1) -> Step:
    return "seen", hours, {"generation": generation}


@pytest.mark.parametrize(
    ("steps", "lines"),
    [
        pytest.param([_opens(0, runs=False), _closes(2, ran=True)], ["opened 0", "closed 2"], id="opened-and-closed"),
        pytest.param([_opens(0, runs=False), _opens(1, runs=True)], ["opened 0"], id="told-again-while-it-runs"),
        pytest.param([_closes(1, ran=True)], [], id="never-opened"),
        pytest.param(
            [_opens(0, runs=False), _closes(2, ran=True), _closes(3, ran=False)], ["opened 0", "closed 2"], id="twice"
        ),
        pytest.param(
            [_opens(0, runs=False), _opens(1, runs=True, workers=3)],
            ["opened 0", "closed 1", "opened 1"],
            id="another-size",
        ),
        pytest.param(
            [_opens(0, runs=False), _sees(3), _opens(9, runs=False)],
            ["opened 0", "closed 3", "opened 9"],
            id="reboot-and-up-again",
        ),
        pytest.param(
            [_opens(0, runs=False), _sees(3), _closes(9, ran=False)], ["opened 0", "closed 3"], id="killed-then-ended"
        ),
        pytest.param(
            [_opens(0, runs=False), _closes(9, ran=False)], ["opened 0", "closed 0"], id="killed-and-never-seen"
        ),
        pytest.param(
            [_opens(0, runs=False), _sees(3, generation=7), _closes(9, ran=False)],
            ["opened 0", "closed 0"],
            id="seen-was-another-opening",
        ),
    ],
)
def test_every_opening_is_written_once_and_ends(steps: list[Step], lines: list[str], tmp_path: Path):
    usage = Usage(tmp_path)
    for what, hours, arguments in steps:
        if what == "seen":
            (tmp_path / "seen.json").write_text(json.dumps(arguments | {"at": _after(hours).isoformat()}))
        else:
            getattr(usage, what)(at=_after(hours), **arguments)
    file = tmp_path / "usage.jsonl"
    written = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    hours = [(dt.datetime.fromisoformat(each["at"]) - START).total_seconds() / 3600 for each in written]
    assert [f"{each['what']} {hour:.0f}" for each, hour in zip(written, hours, strict=True)] == lines
    assert all(set(each) == {"at", "what", *FIGURES} for each in written)
    assert usage.open() == (bool(lines) and lines[-1].startswith("opened"))


def test_a_line_that_a_kill_cut_off_hides_nothing(tmp_path: Path):
    usage = Usage(tmp_path)
    usage.opened(FIGURES, START, runs=False)
    with (tmp_path / "usage.jsonl").open("a") as file:
        file.write('{"at": "2027-')
    usage.closed(_after(1), ran=True)
    *_, cut, last = (tmp_path / "usage.jsonl").read_text().splitlines()
    assert cut == '{"at": "2027-'
    assert json.loads(last)["what"] == "closed"
