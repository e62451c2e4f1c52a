"""What a model is worth: the figures of each kind of task, on given rows.

Figures come from scikit-learn (its definitions and edge cases are documented and tested). A figure that the rows
cannot give, the AUC of one class alone for example, is left out rather than made up.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from sklearn import metrics
from sklearn.exceptions import UndefinedMetricWarning

from stackyard.spec.models import TaskSpec


def measure(task: TaskSpec, labels: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    """The figures of `outputs` against `labels` [rows].

    `outputs` is [rows] for binary (probability of true) and regression, [rows, classes] for multiclass
    (probabilities); `labels` are 0/1, class numbers, or values in the label's unit.
    """
    if len(labels) == 0:
        return {}
    figures = {"regression": _regression, "binary": _binary, "multiclass": _multiclass}[task.type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # a share of nothing is 0, as documented
        found = figures(labels, outputs)
    return {name: float(value) for name, value in found.items() if math.isfinite(value)} | {"rows": float(len(labels))}


def _binary(labels: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    decided = outputs >= 0.5
    found = {
        "log_loss": metrics.log_loss(labels, np.clip(outputs, 1e-15, 1 - 1e-15), labels=[0, 1]),
        "brier": float(np.mean((outputs - labels) ** 2)),
        "accuracy": metrics.accuracy_score(labels, decided),
        "precision": metrics.precision_score(labels, decided),
        "recall": metrics.recall_score(labels, decided),
        "f1": metrics.f1_score(labels, decided),
        "base_rate": float(np.mean(labels)),
    }
    if 0 < labels.sum() < len(labels):
        found["auc"] = metrics.roc_auc_score(labels, outputs)
    return found


def _multiclass(labels: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    classes = list(range(outputs.shape[1]))
    decided = outputs.argmax(axis=1)
    return {
        "log_loss": metrics.log_loss(labels, outputs, labels=classes),
        "accuracy": metrics.accuracy_score(labels, decided),
        "macro_f1": metrics.f1_score(labels, decided, labels=classes, average="macro"),
    }


def _regression(labels: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    found = {
        "rmse": metrics.root_mean_squared_error(labels, outputs),
        "mae": metrics.mean_absolute_error(labels, outputs),
    }
    if len(labels) > 1:
        found["r2"] = metrics.r2_score(labels, outputs)
    return found
