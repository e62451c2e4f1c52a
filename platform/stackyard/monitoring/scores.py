"""How good answers were, in a form that adds up over days, replicas and slices: see the module of each kind of task.

A window's figures are those of the sum of its days; no row is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from stackyard.monitoring.binary_scores import BinaryScores
from stackyard.monitoring.class_scores import ClassScores
from stackyard.monitoring.number_scores import NumberScores
from stackyard.spec.models import TaskSpec

Scores = BinaryScores | ClassScores | NumberScores
"""Each has `rows`, `+`, `metrics()`, `interval(metric, confidence, rng)` and `plain()`."""


def score(task: TaskSpec, labels: np.ndarray, outputs: np.ndarray) -> Scores:
    """The scores of `outputs` against `labels` [rows]: 0/1, class numbers or values.

    `outputs` is [rows] or [rows, 1] for binary (probability of true) and regression, [rows, classes] for multiclass.
    Raises ValueError for values the task does not know.
    """
    match task.type:
        case "binary":
            return BinaryScores.of(labels, outputs)
        case "multiclass":
            return ClassScores.of(labels, outputs, len(task.classes or ()))
        case "regression":
            return NumberScores.of(labels, outputs)


def empty(task: TaskSpec) -> Scores:
    """The scores of no row."""
    match task.type:
        case "binary":
            return BinaryScores.empty()
        case "multiclass":
            return ClassScores.empty(len(task.classes or ()))
        case "regression":
            return NumberScores()


def by_value(task: TaskSpec, labels: np.ndarray, outputs: np.ndarray, values: pl.Series) -> dict[str, dict[str, Any]]:
    """Plain scores of the rows with each value of a column [rows]; a missing value is the slice `missing`."""
    named = values.cast(pl.String, strict=False).fill_null("missing")
    groups = pl.DataFrame({"value": named}).with_row_index("row").group_by("value", maintain_order=True).all()
    places = {value: np.asarray(rows) for value, rows in groups.sort("value").rows()}
    return {value: score(task, labels[rows], outputs[rows]).plain() for value, rows in places.items()}


def add(one: Scores, two: Scores) -> Scores:
    """The rows of both. Raises ValueError when they are of different tasks."""
    if type(one) is not type(two):
        raise ValueError("scores of different tasks do not add up")
    return one + two  # type: ignore[operator]


def load(plain: Mapping[str, Any]) -> Scores:
    """What `plain()` of any scores wrote. Raises ValueError for anything else."""
    kinds = {"binary": BinaryScores, "multiclass": ClassScores, "regression": NumberScores}
    try:
        return kinds[plain["task"]].load(plain)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"these are no scores: {error!r}") from None
