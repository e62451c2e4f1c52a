"""What a replay has lived through, a file a day, so that it can be killed at any moment and go on from there."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from stackyard.replay.sending import Traffic


class Entry(BaseModel):
    """One day that is over. `buckets` as in `sending.Traffic`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    kind: str = "replay-day"
    version: int = 1
    day: dt.date
    requests: int
    """Requests of the day; each is in the log once."""
    labels: int
    """Truths that arrived on the day."""
    buckets: dict[int, int]
    seconds: float
    """Seconds (real) that the day took, waiting included."""
    waited: float
    """Seconds of these that virtual time stood still for the loop."""


class Diary:
    """The folder of a replay."""

    def __init__(self, folder: Path) -> None:
        self._days, self._failures = folder / "days", folder / "failures.jsonl"
        self._begun = folder / "begun.json"
        self._days.mkdir(parents=True, exist_ok=True, mode=0o700)

    def next_day(self, start: dt.date) -> dt.date:
        """The first day, from `start` on, that is not over."""
        day = start
        while self._file(day).exists():
            day += dt.timedelta(days=1)
        return day

    def begin(self, day: dt.date, facts: dict[str, Any]) -> bool:
        """Note that `day` begins; False if it had begun before. Raises ValueError if `facts` are not those of then.

        `facts` must be the same for the whole replay: another sample would be other requests.
        """
        now = {"day": day.isoformat(), "facts": facts}
        before = _read(self._begun)
        if before is not None and before["facts"] != facts:
            raise ValueError(f"this replay was begun with {before['facts']}, and cannot go on with {facts}")
        _write(self._begun, now)
        return before is None or before["day"] != day.isoformat()

    def end(self, entry: Entry) -> None:
        """Note that a day is over."""
        _write(self._file(entry.day), entry.model_dump(mode="json"))

    def entries(self) -> list[Entry]:
        """Every day that is over, in order."""
        return [Entry.model_validate_json(path.read_bytes()) for path in sorted(self._days.glob("[0-9]*.json"))]

    def failed(self, failure: dict[str, str]) -> None:
        """Note a failed request, for good at once."""
        with self._failures.open("a") as file:
            file.write(json.dumps(failure) + "\n")

    def failures(self) -> list[dict[str, str]]:
        """Every failed request; the last line may have been cut off by a kill."""
        try:
            lines = self._failures.read_text().split("\n")
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def _file(self, day: dt.date) -> Path:
        return self._days / f"{day.isoformat()}.json"


def entry(day: dt.date, requests: int, labels: int, traffic: Traffic, seconds: float, waited: float) -> Entry:
    """The entry of a day."""
    buckets: Counter[int] = traffic.buckets
    return Entry(
        day=day, requests=requests, labels=labels, buckets=dict(buckets), seconds=round(seconds, 3),
        waited=round(waited, 3),
    )  # fmt: skip


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def _write(path: Path, value: dict[str, Any]) -> None:
    scratch = path.with_name(f".{path.name}-{os.getpid()}")
    scratch.write_text(json.dumps(value))
    os.replace(scratch, path)
