"""The figures of a replay, derived again from stored predictions and truths, by code of its own.

Nothing here is shared with the loop that is judged by it: neither the join nor the formulas.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from stackyard.replay.yard import Yard, for_users
from stackyard.store import layout

Kind = Literal["binary", "multiclass", "regression"]

FIGURE: dict[str, str] = {"binary": "auc", "multiclass": "accuracy", "regression": "rmse"}
"""The figure that a kind of task is replayed for."""


@dataclass(frozen=True)
class Scored:
    """Answered rows with their truth, in order of (day, request id).

    `outputs` [rows] is the probability of true, the class number with the greatest probability, or the value.
    """

    ids: np.ndarray
    days: np.ndarray
    """datetime64[D]."""
    outputs: np.ndarray
    labels: np.ndarray
    bundles: np.ndarray


def answered(yard: Yard, days: Sequence[dt.date]) -> Scored:
    """What users were answered on `days`, with the newest truth about it; rows without one are left out."""
    columns = ["request_id", "row", "time", "bundle", "arm", "outcome", "outputs"]
    parts = [
        _users(table).with_columns(pl.lit(day).alias("day"))
        for day in days
        for table in yard.tables(layout.predictions(yard.model, day.isoformat(), ""), columns)
    ]
    rows = pl.concat(parts) if parts else pl.DataFrame(schema=_ROWS)
    # A canary's answer is what the user got; a champion's row for the same request stands where the canary failed.
    rows = rows.sort("day", "request_id", "canary", "time").unique(
        ["request_id", "row"], keep="last", maintain_order=True
    )
    joined = rows.join(_truths(yard), on=["request_id", "row"], how="inner").sort("day", "request_id", "row")
    return Scored(
        ids=joined["request_id"].to_numpy(),
        days=joined["day"].to_numpy().astype("datetime64[D]"),
        outputs=np.asarray(joined["output"].to_list(), dtype=float),
        labels=joined["label"].to_numpy().astype(float),
        bundles=joined["bundle"].to_numpy(),
    )


_ROWS = {
    "request_id": pl.String, "row": pl.UInt32, "time": pl.Datetime("us", "UTC"), "bundle": pl.String,
    "canary": pl.Boolean, "output": pl.Float64, "day": pl.Date,
}  # fmt: skip


def _users(table: pl.DataFrame) -> pl.DataFrame:
    table = for_users(table)
    canary = pl.col("arm") == "canary" if "arm" in table.columns else pl.lit(value=False)
    several = pl.col("outputs").list.len() > 1
    output = pl.when(several).then(pl.col("outputs").list.arg_max()).otherwise(pl.col("outputs").list.first())
    return table.select(
        "request_id", "row", pl.col("time").dt.cast_time_unit("us"), "bundle", canary.alias("canary"),
        output.cast(pl.Float64).alias("output"),
    )  # fmt: skip


def _truths(yard: Yard) -> pl.DataFrame:
    columns = ["request_id", "row", "label", "received"]
    parts = [table.select(columns) for table in yard.tables(f"labels/{yard.model}", columns)]
    if not parts:
        return pl.DataFrame(schema={"request_id": pl.String, "row": pl.UInt32, "label": pl.Float64})
    newest = pl.concat(parts).sort("received").unique(["request_id", "row"], keep="last")
    return newest.drop("received")


def figure(kind: str, labels: np.ndarray, outputs: np.ndarray) -> float | None:
    """AUC, accuracy or RMSE of `outputs` [rows]; None where the rows cannot give it."""
    if len(labels) == 0:
        return None
    match kind:
        case "binary":
            return auc(labels, outputs)
        case "multiclass":
            return float(np.mean(outputs == labels))
        case _:
            return float(np.sqrt(np.mean((outputs - labels) ** 2)))


def auc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """The chance that a positive's score lies above a negative's, ties counted half: Mann and Whitney's U (1947)
    over the number of pairs. None with one class alone."""
    positive = labels == 1
    many, few = int(positive.sum()), int((~positive).sum())
    if not many or not few:
        return None
    below = np.sort(scores[~positive])
    wins = np.searchsorted(below, scores[positive], "left") + np.searchsorted(below, scores[positive], "right")
    return float(wins.sum() / 2 / (many * few))


def monthly(kind: str, days: np.ndarray, labels: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    """`YYYY-MM` to the figure of that month's rows."""
    return _grouped(kind, days.astype("datetime64[M]"), labels, outputs)


def daily(kind: str, days: np.ndarray, labels: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    """`YYYY-MM-DD` to the figure of that day's rows."""
    return _grouped(kind, days, labels, outputs)


def mean(by_month: Mapping[str, float], months: Sequence[str]) -> float | None:
    """Mean of the figures of `months`, each month counting once."""
    found = [by_month[month] for month in months if month in by_month]
    return float(np.mean(found)) if found else None


def whole_months(start: dt.date, end: dt.date) -> list[str]:
    """The calendar months wholly in [start, end); where there is none, every month that begins or ends there."""
    days = [start + dt.timedelta(days=n) for n in range((end - start).days)]
    months = sorted({f"{day:%Y-%m}" for day in days})
    return [month for month in months if is_whole(start, end, [month])] or months


def is_whole(start: dt.date, end: dt.date, months: Sequence[str]) -> bool:
    """Whether every one of `months` lies wholly in [start, end)."""
    return all(_first(month) >= start and _first(month, 1) <= end for month in months)


def psi(expected: np.ndarray, found: np.ndarray) -> float:
    """Population stability index of two tables of counts over the same bins, half a row added to each bin.

    Source: Siddiqi, Credit Risk Scorecards (2006), chapter 5: sum of (q - p) ln(q / p).
    """
    p, q = ((counts + 0.5) / (counts + 0.5).sum() for counts in (expected, found))
    return float(np.sum((q - p) * np.log(q / p)))


def _grouped(kind: str, group: np.ndarray, labels: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    found = {}
    for each in np.unique(group):
        chosen = group == each
        value = figure(kind, labels[chosen], outputs[chosen])
        if value is not None:
            found[str(each)] = value
    return found


def _first(month: str, later: int = 0) -> dt.date:
    year, number = map(int, month.split("-"))
    return dt.date(year + (number - 1 + later) // 12, (number - 1 + later) % 12 + 1, 1)
