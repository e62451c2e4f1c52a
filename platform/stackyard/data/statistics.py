"""What a column looked like when it was frozen, small enough to read in a manifest.

Figures are rounded to nine digits: sums in another order, on another processor or with another number of threads,
differ in the last bits, and a snapshot's digest must not.
"""

from __future__ import annotations

from typing import Any

import polars as pl

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
TOP = 20
"""Categories named, the most frequent first."""


def statistics(frame: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """For each column: nulls, and min/max/mean/std/quantiles of numbers, min/max of times, or top categories."""
    return {series.name: {"nulls": series.null_count(), **_of(series)} for series in frame.get_columns()}


def _of(series: pl.Series) -> dict[str, Any]:
    known = series.drop_nulls()
    if known.len() == 0:
        return {}
    if series.dtype.is_numeric():
        return _numbers(known)
    if isinstance(series.dtype, pl.Datetime):
        ends = pl.Series([known.min(), known.max()], dtype=series.dtype)
        least, most = ends.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_list()
        return {"min": least, "max": most}
    counts = known.cast(pl.String).value_counts(name="count").sort(["count", series.name], descending=[True, False])
    return {"distinct": counts.height, "top": [[value, count] for value, count in counts.head(TOP).rows()]}


def _numbers(known: pl.Series) -> dict[str, Any]:
    ordered = known.sort()
    # The value at that rank, not one between two: exact, whatever the processor.
    places = [round(share * (ordered.len() - 1)) for share in QUANTILES]
    quantiles = dict(zip([str(share) for share in QUANTILES], ordered.gather(places).to_list(), strict=True))
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": _rounded(known.cast(pl.Float64).mean()),
        "std": _rounded(known.cast(pl.Float64).std() or 0.0),
        "quantiles": quantiles,
    }


def _rounded(value: Any) -> float | None:
    found = float(f"{float(value):.9g}")
    return found if abs(found) != float("inf") else None  # the sum of sound numbers may still overflow
