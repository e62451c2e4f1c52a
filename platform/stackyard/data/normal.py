"""One way for each type to lie in memory, whatever library or file the rows came from.

Only changes that lose nothing are made; what does not fit is left as it is, for the checks to name.
"""

from __future__ import annotations

import polars as pl

from stackyard.data.requests import DTYPES
from stackyard.spec.models import DataSpec

_TIMES = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z")


def normal(frame: pl.DataFrame, data: DataSpec, *, text: bool = False) -> pl.DataFrame:
    """`frame` with the spec's columns first, in its order and in the types of DTYPES where that loses nothing.

    With `text`, strings are read as the spec's type when every one of them can be (CSV has no types).
    """
    names = [name for name in data.columns if name in frame.columns]
    names += [name for name in frame.columns if name not in data.columns]
    made = [
        _normal(frame[name], data.columns[name].type, text=text) if name in data.columns else frame[name]
        for name in names
    ]
    return pl.DataFrame(made)


def readable(series: pl.Series, kind: str) -> pl.Series:
    """Strings read as `kind`; null where that cannot be done."""
    if kind == "datetime":
        spelled = series.str.replace(r"^(\d{4}-\d\d-\d\d) ", "$1T").str.replace(r"[Zz]$", "+00:00")
        tries = [_time(spelled, form) for form in _TIMES]
        return pl.select(pl.coalesce(tries).alias(series.name)).to_series()
    if kind == "boolean":
        low = series.str.to_lowercase()
        found = pl.when(low == "true").then(statement=True).when(low == "false").then(statement=False)
        return pl.select(found.alias(series.name)).to_series()
    return series.cast(DTYPES[kind], strict=False)


def ordered(frame: pl.DataFrame, data: DataSpec) -> pl.DataFrame:
    """Rows by time; equal times by every other column, so that equal rows in give equal rows out, in any order."""
    if data.time not in frame.columns or not isinstance(frame.schema[data.time], pl.Datetime):
        return frame  # the checks will say so
    rest = [name for name in data.columns if name in frame.columns and name != data.time and _sortable(frame[name])]
    return frame.sort([data.time, *rest], nulls_last=True, maintain_order=True)


def _normal(series: pl.Series, kind: str, *, text: bool) -> pl.Series:
    dtype, wanted = series.dtype, DTYPES[kind]
    if dtype == wanted:
        return series
    if dtype == pl.Null or (kind == "string" and dtype in (pl.Categorical, pl.Enum)):
        return series.cast(wanted)
    if kind == "integer" and dtype.is_integer():
        return series.cast(wanted) if series.cast(wanted, strict=False).null_count() == series.null_count() else series
    if kind == "float" and (dtype.is_float() or dtype.is_integer()):
        return series.cast(wanted)
    if kind == "datetime" and isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return series.dt.cast_time_unit("us").dt.convert_time_zone("UTC")  # nanoseconds are cut off
    if text and dtype == pl.String:
        found = readable(series, kind)
        return found if found.null_count() == series.null_count() else series
    return series


def _time(series: pl.Series, form: str) -> pl.Series:
    return series.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False)


def _sortable(series: pl.Series) -> bool:
    dtype = series.dtype
    return dtype.is_numeric() or dtype.is_temporal() or dtype in (pl.String, pl.Boolean)
