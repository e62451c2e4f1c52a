"""The rows of one past day as somebody would have asked about them: one request each, and the truth for later.

Ids follow from the rows alone, so a day that is sent again is the same requests and counts once. The source is asked
for that one day, so nothing of a later one can reach a request.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from stackyard.data import features, sources
from stackyard.data.errors import DataError
from stackyard.spec.models import ProjectSpec, WindowSpec

STEPS = 24
"""Steps of the virtual clock in a day: its hours, UTC."""
STEP = dt.timedelta(days=1) / STEPS


@dataclass(frozen=True, slots=True)
class Request:
    """One row as a request."""

    request_id: str
    body: bytes
    """The JSON to POST."""
    step: int
    """The step of the day, from 0, in which it is asked."""
    label: Any
    """The truth as `POST /labels` takes it; None where the source has none."""


@dataclass(frozen=True)
class Day:
    """One day of the source: `requests[n]` is row `places[n]` of `frame`."""

    day: dt.date
    frame: pl.DataFrame
    requests: tuple[Request, ...]

    @property
    def ids(self) -> frozenset[str]:
        """Every request's id."""
        return frozenset(request.request_id for request in self.requests)


def midnight(day: dt.date) -> dt.datetime:
    """The begin of `day`, UTC."""
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def read(
    project: ProjectSpec,
    folder: Path,
    day: dt.date,
    sample: float = 1.0,
    function: Callable[..., Any] | None = None,
) -> Day:
    """The requests of `day`, in order of time; of each row's id its hash decides whether it is in the sample.

    `sample` is a share in (0, 1]; `function` as in `sources.read`. A day without rows has no requests.
    Raises DataError.
    """
    try:
        frame = sources.read(project.data, folder, WindowSpec(start=day, end=day + dt.timedelta(days=1)), function)
    except DataError as error:
        if "no rows from" not in str(error):
            raise
        return Day(day, pl.DataFrame(), ())
    return chosen(project, frame, day, sample)


def chosen(project: ProjectSpec, frame: pl.DataFrame, day: dt.date, sample: float) -> Day:
    """As `read`, of a frame with the rows of `day`."""
    plain = features.rows(frame, features.before(project.data))
    steps = frame[project.data.time].dt.hour().to_list()
    labels = frame[project.task.label].to_list()
    seen: Counter[str] = Counter()
    kept: list[int] = []
    requests: list[Request] = []
    for place, (row, step, label) in enumerate(zip(plain, steps, labels, strict=True)):
        text = json.dumps(row, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()
        seen[digest] += 1
        if int(digest[:8], 16) >= sample * 2**32:
            continue
        request_id = f"{day:%Y%m%d}-{digest[:20]}-{seen[digest]}"
        body = f'{{"instances":[{text}]}}'.encode()
        requests.append(Request(request_id, body, int(step), _label(label)))
        kept.append(place)
    return Day(day, frame[kept], tuple(requests))


def due(days: Sequence[Day], start: dt.datetime, end: dt.datetime, delay: float) -> list[Request]:
    """Requests of `days` whose truth is known in [start, end); `delay` in seconds after they were asked."""
    later = dt.timedelta(seconds=delay)
    return [
        request
        for day in days
        for request in day.requests
        if request.label is not None and start <= midnight(day.day) + request.step * STEP + later < end
    ]


def _label(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)
