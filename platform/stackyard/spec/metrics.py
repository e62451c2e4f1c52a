"""Which figure judges which task, and which way is up."""

from __future__ import annotations

from typing import Final

from stackyard.spec.models import TaskSpec

METRICS: Final[dict[str, tuple[str, ...]]] = {
    "binary": ("auc", "log_loss", "accuracy", "precision", "recall", "f1"),
    "multiclass": ("macro_f1", "log_loss", "accuracy"),
    "regression": ("rmse", "mae", "r2"),
}
"""The metrics of each task type; the first decides unless the author names another."""

LESS_IS_BETTER: Final = frozenset({"log_loss", "rmse", "mae"})
"""Losses and errors; of every other metric more is better."""


def metric(task: TaskSpec) -> str:
    """The figure that decides for this task: the one named, or the default of its type."""
    return task.metric or METRICS[task.type][0]


def more_is_better(name: str) -> bool:
    """Whether a larger value of this metric is a better model."""
    return name not in LESS_IS_BETTER
