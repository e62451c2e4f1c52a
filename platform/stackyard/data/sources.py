"""Rows of one window of event time, from wherever the project keeps them, always in the same order.

Two reads of equal data must freeze to one snapshot, so rows are sorted by time and then by every other column.
Nothing is repaired here: what is not as the spec says stays visible for the checks.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from stackyard.data import files, loading
from stackyard.data.errors import DataError, blame
from stackyard.data.normal import normal, ordered
from stackyard.spec.models import CsvSourceSpec, DataSpec, ParquetSourceSpec, PythonSourceSpec, WindowSpec


def read(
    data: DataSpec, project_folder: Path, window: WindowSpec | None, function: Callable[..., Any] | None = None
) -> pl.DataFrame:
    """The rows of `window` (None: the spec's own), time-ordered, duplicates kept; times in UTC microseconds.

    Whoever reads often hands over the source's `function` (see `function_of`), so that it may remember something.

    Columns come in the spec's order and types where that loses nothing; unknown ones follow, wrong ones are left
    for `checks.violations`. Raises DataError: no rows, a file that cannot be read, a source function that fails
    (with its file and line) or returns rows outside the window.
    """
    window = window or data.window
    match data.source:
        case PythonSourceSpec(python=path):
            frame = _called(path, data, project_folder, window, function)
        case ParquetSourceSpec(parquet=where):
            frame = _within(files.read_parquet(where, data, project_folder), data, window)
        case CsvSourceSpec(csv=where):
            frame = _within(files.read_csv(where, data, project_folder), data, window)
    if frame.height == 0:
        raise DataError(f"data.source: no rows from {window.start} to {window.end} (excluded)")
    return ordered(frame, data)


def function_of(data: DataSpec, project_folder: Path) -> Callable[..., Any] | None:
    """The function of a source that is one, imported afresh. Raises DataError."""
    source = data.source
    return loading.load(project_folder, source.python) if isinstance(source, PythonSourceSpec) else None


def span(window: WindowSpec) -> tuple[dt.datetime, dt.datetime]:
    """The window as [start, end) in UTC."""
    start, end = (dt.datetime.combine(day, dt.time(), dt.UTC) for day in (window.start, window.end))
    return start, end


def _called(
    path: str, data: DataSpec, folder: Path, window: WindowSpec, function: Callable[..., Any] | None
) -> pl.DataFrame:
    function = function or loading.load(folder, path)
    start, end = span(window)
    try:
        found = function(start, end)
        found = found.collect() if isinstance(found, pl.LazyFrame) else found
    except (Exception, SystemExit) as error:  # noqa: BLE001 - user code may raise anything
        raise DataError(f"data.source.python: {path} failed: {blame(error, folder)}") from None
    if not isinstance(found, pl.DataFrame):
        raise DataError(f"data.source.python: {path} must return a polars DataFrame, not {type(found).__name__}")
    frame = normal(found, data)
    if (outside := frame.height - _within(frame, data, window).height) > 0:
        raise DataError(
            f"data.source.python: {path} returned {outside} of {frame.height} rows outside {start:%Y-%m-%d} to "
            f"{end:%Y-%m-%d} (excluded, UTC): select by {data.time}, start included and end excluded"
        )
    return frame


def _within(frame: pl.DataFrame, data: DataSpec, window: WindowSpec) -> pl.DataFrame:
    """The rows of the window; rows without a time are kept, for the checks to name."""
    if data.time not in frame.columns or not isinstance(frame.schema[data.time], pl.Datetime):
        return frame
    if frame.schema[data.time].time_zone is None:  # type: ignore[attr-defined]
        return frame  # a time without its zone cannot be compared; the checks say so
    start, end = span(window)
    time = pl.col(data.time)
    return frame.filter(time.is_null() | time.is_between(start, end, closed="left"))
