"""What the quality rules look at of one day's batch: a few numbers a column, so that a history of days is small."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict
from scipy import stats

from stackyard.data.features import before
from stackyard.data.reference import Reference
from stackyard.data.requests import DTYPES
from stackyard.data.sketches import Sketch, most_common
from stackyard.spec.models import ColumnSpec, DataSpec, TaskSpec


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnFacts(_Facts):
    """One input column of one day; shares are of the day's rows unless said otherwise."""

    missing: float
    unseen: float = 0.0
    """Categories that training never saw, or saw too seldom to name."""
    beyond: float = 0.0
    """Numbers beyond the spec's bounds; where it has none, beyond the reference's range widened by half of it."""
    present: int = 0
    """Numbers that are there; the rest is about these, and None without any."""
    common: float | None = None
    """Share of the most frequent single value among them."""
    low: float | None = None
    """A tenth lies below; half below `median`, a tenth above `high`."""
    median: float | None = None
    high: float | None = None


class DayFacts(_Facts):
    """One day's batch."""

    day: dt.date
    rows: int
    columns: dict[str, ColumnFacts] = {}
    lost: tuple[str, ...] = ()
    """Inputs of the spec that the batch lacks."""
    wrong_types: dict[str, str] = {}
    """Column to the type it has instead of the spec's."""
    duplicates: int = 0
    """Rows that repeat another row in every input, the time included."""
    labelled: int = 0
    label: float | tuple[float, ...] | None = None
    """Mean of the labels; for multiclass the share of each class."""
    expected: float | tuple[float, ...] | None = None
    """Mean of the champion's outputs for the same rows."""
    agreement: float | None = None
    """How surely labels follow the champion's order, in standard errors from chance: below 0 they go against it."""
    label_conflicts: int = 0
    wrong_labels: int = 0
    unknown_labels: int = 0


def facts(
    day: dt.date, frame: pl.DataFrame, data: DataSpec, task: TaskSpec, reference: Reference, **counts: int
) -> DayFacts:
    """The facts of a day's rows, one a request's row.

    `frame` holds the inputs, and once labels have come `outputs` (list of float64) and `label` (float64, null without
    truth). `counts` are `label_conflicts`, `wrong_labels`, `unknown_labels`.
    """
    inputs = before(data)
    there = [name for name in inputs if name in frame.columns]
    wrong = {name: str(frame.schema[name]) for name in there if not _fits(frame.schema[name], inputs[name])}
    rows = frame.select(there)
    return DayFacts(
        day=day,
        rows=frame.height,
        columns={
            name: _column(frame[name], inputs[name], reference.inputs.get(name))
            for name in there
            if frame.height and name not in wrong
        },
        lost=tuple(name for name in inputs if name not in frame.columns),
        wrong_types=wrong,
        duplicates=frame.height - rows.n_unique() if there and frame.height else 0,
        **_labels(frame, task),
        **counts,
    )


def _fits(dtype: pl.DataType, spec: ColumnSpec) -> bool:
    if isinstance(dtype, pl.Datetime):
        return spec.type == "datetime"
    return dtype in (DTYPES[spec.type], pl.Null) or (
        spec.type == "string" and isinstance(dtype, pl.Categorical | pl.Enum)
    )


def _column(values: pl.Series, spec: ColumnSpec, known: Sketch | None) -> ColumnFacts:
    rows = len(values)
    if spec.type in ("string", "boolean", "datetime"):
        unseen = 0.0
        if known is not None and spec.type == "string":
            found = known.empty().add(values)
            unseen = (found.unseen + (int(found.counts[-1]) if len(found.counts) > len(found.names) else 0)) / rows
        return ColumnFacts(missing=values.null_count() / rows, unseen=unseen)
    numbers = values.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
    present = numbers[np.isfinite(numbers)]
    missing = 1 - len(present) / rows
    if not len(present):
        return ColumnFacts(missing=missing)
    low, high = _bounds(spec, known)
    ends = np.quantile(present, [0.1, 0.5, 0.9])
    return ColumnFacts(
        missing=missing,
        beyond=float(((present < low) | (present > high)).sum()) / rows,
        present=len(present),
        common=most_common(present),
        low=float(ends[0]),
        median=float(ends[1]),
        high=float(ends[2]),
    )


def _bounds(spec: ColumnSpec, known: Sketch | None) -> tuple[float, float]:
    low, high = -np.inf, np.inf
    if known is not None and known.minimum is not None and known.maximum is not None:
        wider = (known.maximum - known.minimum) / 2
        low, high = known.minimum - wider, known.maximum + wider
    return (low if spec.minimum is None else spec.minimum, high if spec.maximum is None else spec.maximum)


def _labels(frame: pl.DataFrame, task: TaskSpec) -> dict[str, Any]:
    if "label" not in frame.columns or "outputs" not in frame.columns:
        return {}
    known = frame.filter(pl.col("label").is_not_null())
    if not known.height:
        return {}
    labels = known["label"].cast(pl.Float64).to_numpy()
    outputs = np.asarray(known["outputs"].to_list(), np.float64).reshape(len(labels), -1)
    if task.type == "multiclass":
        shares = np.bincount(labels.astype(np.int64), minlength=outputs.shape[1]) / len(labels)
        mean: Any = tuple(shares.tolist())
        expected: Any = tuple(outputs.mean(axis=0).tolist())
        agreement = _hits(labels, outputs, shares)
    else:
        mean, expected = float(labels.mean()), float(outputs[:, 0].mean())
        agreement = _ranks(labels, outputs[:, 0])
    return {"labelled": len(labels), "label": mean, "expected": expected, "agreement": agreement}


def _ranks(labels: np.ndarray, outputs: np.ndarray) -> float | None:
    """Spearman's rank correlation in standard errors of independence, 1/sqrt(rows - 1): of 0/1 labels this is Mann and
    Whitney's U, that is the AUC, in its own."""
    if len(labels) < 2 or np.ptp(labels) == 0 or np.ptp(outputs) == 0:
        return None
    ranks = np.corrcoef(stats.rankdata(labels), stats.rankdata(outputs))[0, 1]
    return float(ranks * np.sqrt(len(labels) - 1))


def _hits(labels: np.ndarray, outputs: np.ndarray, shares: np.ndarray) -> float | None:
    """Right answers beyond those of calls dealt at random, in binomial standard errors (Cohen's kappa's chance)."""
    called = outputs.argmax(axis=1)
    chance = float((shares * np.bincount(called, minlength=len(shares)) / len(called)).sum())
    if not 0 < chance < 1:
        return None
    return float(((called == labels).mean() - chance) / np.sqrt(chance * (1 - chance) / len(labels)))
