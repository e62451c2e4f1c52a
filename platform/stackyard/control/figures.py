"""Figures of a model that can be taken a thousand times over resamples of the same rows.

Each figure is prepared once (rows sorted by score, losses per row) so that a resample costs one count over the rows.
Definitions are scikit-learn's; tests compare both. Numbers of rows are counts, figures may be NaN where rows cannot
give them (the AUC of one class alone).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stackyard.spec.metrics import more_is_better
from stackyard.spec.models import TaskSpec

Rows = np.ndarray | slice
"""Which rows count, by number (a row may come several times), or all."""
Statistic = Callable[[Rows], float]
ALL = slice(None)
CALIBRATION_BINS = 15
RESAMPLES = 1000


def statistic(task: TaskSpec, name: str, labels: np.ndarray, outputs: np.ndarray) -> Statistic:
    """The figure `name` as a function of rows.

    `labels` [rows] are 0/1, class numbers or values; `outputs` [rows, outputs] are one probability, one per class, or
    one value. Raises KeyError for a figure that is not the task's.
    """
    if task.type == "regression":
        return _regression(name, labels.astype(np.float64), outputs[:, 0].astype(np.float64))
    if task.type == "multiclass":
        return _multiclass(name, labels.astype(np.int64), outputs.astype(np.float64))
    return _binary(name, labels.astype(np.int64), outputs[:, 0].astype(np.float64))


def oriented(name: str, difference: float) -> float:
    """`difference` of two figures such that more is better."""
    return difference if more_is_better(name) else -difference


def paired_bootstrap(
    first: Statistic, second: Statistic, rows: int, rng: np.random.Generator, *, resamples: int = RESAMPLES
) -> np.ndarray:
    """`first` minus `second` over resamples of the same rows, with replacement: float64 [resamples].

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3. Resamples that cannot give the
    figure are left out.
    """
    found = np.empty(resamples)
    for place in range(resamples):
        chosen = rng.integers(0, rows, rows)
        found[place] = first(chosen) - second(chosen)
    return found[np.isfinite(found)]


def calibration_error(task: TaskSpec, labels: np.ndarray, outputs: np.ndarray) -> float:
    """Expected calibration error over 15 equal bins, Guo et al. (2017), eq. 3; NaN for regression.

    Binary: the probability of true against how often it was. Multiclass: that of the likeliest class.
    """
    if task.type == "regression" or not len(labels):
        return float("nan")
    if task.type == "binary":
        told, right = outputs[:, 0].astype(np.float64), labels.astype(np.float64)
    else:
        told, right = outputs.max(axis=1).astype(np.float64), (outputs.argmax(axis=1) == labels).astype(np.float64)
    bins = np.minimum((told * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=right - told, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def _binary(name: str, labels: np.ndarray, scores: np.ndarray) -> Statistic:
    if name == "auc":
        return _auc(labels, scores)
    if name == "log_loss":
        kept = np.clip(scores, 1e-15, 1 - 1e-15)
        return _mean(-np.log(np.where(labels == 1, kept, 1 - kept)))
    if name == "accuracy":
        return _mean(((scores >= 0.5) == labels).astype(np.float64))
    weights = _SHARES[name]
    kinds = labels * 2 + (scores >= 0.5)

    def share(rows: Rows) -> float:
        _, false_alarms, missed, found = np.bincount(kinds[rows], minlength=4).tolist()
        whole = weights[0] * found + weights[1] * false_alarms + weights[2] * missed
        return weights[0] * found / whole if whole else 0.0

    return share


def _auc(labels: np.ndarray, scores: np.ndarray) -> Statistic:
    """Mann-Whitney's U over counts per distinct score; ties count one half."""
    distinct, ranks = np.unique(scores, return_inverse=True)
    keys, size = ranks.ravel() * 2 + labels, 2 * len(distinct)

    def auc(rows: Rows) -> float:
        negative, positive = np.bincount(keys[rows], minlength=size).reshape(-1, 2).T
        pairs = int(negative.sum()) * int(positive.sum())
        above = (positive * (2 * np.cumsum(negative) - negative)).sum()  # no `@`: BLAS would start threads for this
        return float(above) / (2 * pairs) if pairs else float("nan")

    return auc


def _multiclass(name: str, labels: np.ndarray, outputs: np.ndarray) -> Statistic:
    classes, decided = outputs.shape[1], outputs.argmax(axis=1)
    if name == "log_loss":
        whole = outputs / outputs.sum(axis=1, keepdims=True)
        return _mean(-np.log(np.clip(whole[np.arange(len(labels)), labels], 1e-15, 1)))
    if name == "accuracy":
        return _mean((decided == labels).astype(np.float64))
    if name != "macro_f1":
        raise KeyError(name)
    keys = labels * classes + decided

    def macro_f1(rows: Rows) -> float:
        confusion = np.bincount(keys[rows], minlength=classes**2).reshape(classes, classes)
        both = confusion.sum(axis=0) + confusion.sum(axis=1)
        return float(np.divide(2 * confusion.diagonal(), both, out=np.zeros(classes), where=both > 0).mean())

    return macro_f1


def _regression(name: str, labels: np.ndarray, values: np.ndarray) -> Statistic:
    errors = np.abs(labels - values)
    if name == "mae":
        return _mean(errors)
    squares = errors**2
    if name == "rmse":
        return lambda rows: float(np.sqrt(squares[rows].mean()))
    if name != "r2":
        raise KeyError(name)

    def r2(rows: Rows) -> float:
        spread = float(labels[rows].var())
        return 1 - float(squares[rows].mean()) / spread if spread > 0 else float("nan")

    return r2


def _mean(values: np.ndarray) -> Statistic:
    return lambda rows: float(values[rows].mean())


_SHARES = {"precision": (1, 1, 0), "recall": (1, 0, 1), "f1": (2, 1, 1)}
"""Weights a, b, c of found, false and missed positives in a found / (a found + b false + c missed)."""
