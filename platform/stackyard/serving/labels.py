"""What really happened, sent back by request id: taken only whole and typed, and safe on disk before anyone is thanked.

Columns of `labels/<model>/<day of arrival>/*.parquet`: request_id, row, label (float64: 0/1; the index in the task's
classes; the value), received (UTC, by the stack's clock). The newest `received` wins per (request_id, row); two
requests to one replica never share a moment.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl

from stackyard.serving.protocol import Problem, RequestError
from stackyard.serving.rolling import Part
from stackyard.serving.segments import RollingLog
from stackyard.spec.models import TaskSpec
from stackyard.store import layout

LABELS_FOLDER = ".labels"
"""Below the predictions' spool, hidden, since an older replica takes every other folder there for a spool."""
LABELS_ROLL_SECONDS = 2.0
MOST_LABELS = 10_000
"""Labels in one request."""

_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_FIELDS = {"request_id", "row", "label"}

Label = tuple[str, int, float]
"""(request id, row, number)."""


def read(value: dict[str, Any], task: TaskSpec) -> list[Label]:
    """The labels of a parsed body. Raises RequestError 422 with the path of every mistake; then nothing is taken."""
    problems: list[Problem] = [(key, "is not a field of this request") for key in value if key != "labels"]
    entries = value.get("labels")
    if not isinstance(entries, list) or not entries:
        problems.append(("labels", "must be a list of at least one label"))
        entries = []
    elif len(entries) > MOST_LABELS:
        raise _refused([("labels", f"has {len(entries)} entries; at most {MOST_LABELS} are taken at once")])
    found: dict[tuple[str, int], float] = {}
    for index, entry in enumerate(entries):
        path = f"labels[{index}]"
        if not isinstance(entry, dict):
            problems.append((path, "must be an object with request_id and label"))
            continue
        wrong = _problems(entry, path, task)
        problems += wrong
        if not wrong:
            found[entry["request_id"], entry.get("row", 0)] = _number(entry["label"], task)
    if problems:
        raise _refused(problems)
    return [(request_id, row, number) for (request_id, row), number in found.items()]


def _refused(problems: list[Problem]) -> RequestError:
    path, message = problems[0]
    return RequestError(422, f"{path} {message}; no label of this request was taken", problems)


def _problems(entry: dict[str, Any], path: str, task: TaskSpec) -> list[Problem]:
    found = [(f"{path}.{str(key)[:64]}", "is not a field of a label") for key in entry if key not in _FIELDS]
    request_id, row = entry.get("request_id"), entry.get("row", 0)
    if not isinstance(request_id, str) or _ID.fullmatch(request_id) is None:
        found.append((f"{path}.request_id", "must be the request_id of an answer"))
    if type(row) is not int or not 0 <= row < 1 << 32:
        found.append((f"{path}.row", "must be the number of a row in that request, from 0"))
    if "label" not in entry:
        found.append((f"{path}.label", "is missing"))
    elif (wanted := _wanted(entry["label"], task)) is not None:
        found.append((f"{path}.label", wanted))
    return found


def _wanted(label: Any, task: TaskSpec) -> str | None:
    """What `label` should have been; None when it is that."""
    if task.type == "binary":
        return None if isinstance(label, bool) else "must be true or false"
    if task.type == "multiclass":
        classes = task.classes or ()
        return None if isinstance(label, str) and label in classes else f"must be one of {', '.join(classes)}"
    sound = type(label) is float or (type(label) is int and abs(label) <= 1 << 53)
    return None if sound and math.isfinite(label) else "must be a finite number"


def _number(label: Any, task: TaskSpec) -> float:
    return float((task.classes or ()).index(label)) if task.type == "multiclass" else float(label)


@dataclass
class LabelLog(RollingLog):
    """The labels that one replica took. `take` may be called from any thread that may wait for a disk."""

    roll_seconds: float = LABELS_ROLL_SECONDS
    now: Callable[[], float] | None = None
    """Seconds since 1970 by the stack's clock."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._last = 0

    def take(self, labels: list[Label]) -> int:
        """Keep `labels`, for good once this returns; how many. Raises OSError when the disk does not take them."""
        with self._lock:  # a clock that stands still must not make a correction as old as what it corrects
            moment = self._last = max(round(self._seconds() * 1e6), self._last + 1)
        frame = pl.DataFrame(
            {
                "request_id": [request_id for request_id, _, _ in labels],
                "row": pl.Series([row for _, row, _ in labels], dtype=pl.UInt32),
                "label": pl.Series([number for _, _, number in labels], dtype=pl.Float64),
                "received": pl.Series([moment] * len(labels), dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
            }
        )
        self._spool.append(frame, sync=True)
        self.metrics.labels.inc(len(labels))
        return len(labels)

    def _seconds(self) -> float:
        return dt.datetime.now(dt.UTC).timestamp() if self.now is None else self.now()

    def _parts(self, frame: pl.DataFrame) -> Iterable[Part]:
        yield str(frame["received"][0].date()), "", frame

    def _key(self, day: str, name: str) -> str:
        return layout.labels(self.model, day, name)
