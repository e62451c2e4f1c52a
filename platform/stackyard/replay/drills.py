"""A past with something wrong in it: the rows of a stack's source, poisoned for some days, as Parquet files.

A drill is lived through by a stack of its own whose `data.source` is these files, so that requests, truths and what a
training reads agree; neither the product nor the project knows that it is one.
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from stackyard.data import sources
from stackyard.spec.models import ProjectSpec, WindowSpec

PATTERN = re.compile(r"(?P<name>[a-z-]+)@(?P<span>\d{4}-\d{2}(-\d{2})?)(:(?P<column>\w+))?")


class DrillError(Exception):
    """A drill that there is not."""


@dataclass(frozen=True)
class Drill:
    """What is done to the rows of [start, end)."""

    name: str
    start: dt.date
    end: dt.date
    column: str

    @classmethod
    def of(cls, text: str, project: ProjectSpec) -> Drill:
        """`flipped-labels@2013-05`, `stuck-sensor@2013-05:pressure`, `other-unit@2013-05-07:temperature`.

        A month or a day. Raises DrillError.
        """
        found = PATTERN.fullmatch(text)
        if found is None or found["name"] not in DRILLS:
            raise DrillError(f"{text}: a drill is {' or '.join(sorted(DRILLS))}, @YYYY-MM or @YYYY-MM-DD, :COLUMN")
        column = found["column"] or (project.task.label if found["name"] == "flipped-labels" else "")
        if column not in project.data.columns:
            raise DrillError(f"{text}: {column or 'nothing'} is no column of data.columns; write it after a colon")
        try:
            start = dt.date.fromisoformat(found["span"] if len(found["span"]) > 7 else f"{found['span']}-01")
        except ValueError:
            raise DrillError(f"{text}: there is no such day") from None
        days = 1 if len(found["span"]) > 7 else calendar.monthrange(start.year, start.month)[1]
        return cls(found["name"], start, start + dt.timedelta(days=days), column)

    def done(self, frame: pl.DataFrame, time: str) -> pl.DataFrame:
        """`frame` with the drill's days poisoned; all other rows as they are."""
        hit = pl.col(time).dt.date().is_between(self.start, self.end, closed="left")
        return frame.with_columns(
            pl.when(hit).then(DRILLS[self.name](self.column)).otherwise(pl.col(self.column)).alias(self.column)
        )


def _flipped(column: str) -> pl.Expr:
    return ~pl.col(column)


def _stuck(column: str) -> pl.Expr:
    return pl.col(column).drop_nulls().median().cast(pl.Float64)


def _celsius(column: str) -> pl.Expr:
    return (pl.col(column) - 32) / 1.8


DRILLS: dict[str, Callable[[str], pl.Expr]] = {
    "flipped-labels": _flipped,
    "stuck-sensor": _stuck,
    "other-unit": _celsius,
}
"""Names to what becomes of the column: true is false; one value for all; Fahrenheit read as Celsius."""


def write(project: ProjectSpec, folder: Path, drill: Drill, window: WindowSpec, out: Path) -> int:
    """Write the rows of `window` into `out`, a Parquet file a month; returns the rows. Raises DataError."""
    frame = drill.done(sources.read(project.data, folder, window), project.data.time)
    out.mkdir(parents=True, exist_ok=True)
    for (month,), part in frame.group_by(pl.col(project.data.time).dt.strftime("%Y-%m"), maintain_order=True):
        part.write_parquet(out / f"{month}.parquet")
    return frame.height
