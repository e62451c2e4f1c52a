"""How much better one model is than another on the rows that both answered, and how sure that is.

The AUC has a closed form; any other figure is resampled. Differences are oriented: more is better, also for losses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from stackyard.control.figures import ALL, oriented, paired_bootstrap, statistic
from stackyard.spec.metrics import metric
from stackyard.spec.models import TaskSpec

RESAMPLES = 200
"""Enough for a standard error: its own error is then 5 % (Efron and Tibshirani 1993, section 6.4)."""


@dataclass(frozen=True)
class Difference:
    """Challenger minus champion, more is better. NaN where the rows cannot give the figure."""

    value: float
    error: float
    """Standard error of `value`."""
    rows: int

    @property
    def known(self) -> bool:
        return math.isfinite(self.value) and math.isfinite(self.error)

    def above(self, limit: float) -> float:
        """By how many standard errors the difference is above `limit`."""
        if self.error > 0:
            return (self.value - limit) / self.error
        return math.copysign(math.inf, self.value - limit) if self.value != limit else 0.0


def paired(
    task: TaskSpec, labels: np.ndarray, champion: np.ndarray, challenger: np.ndarray, rng: np.random.Generator
) -> Difference:
    """Of the deciding metric on the same rows. `labels` [rows]; outputs [rows] or [rows, outputs]."""
    name, rows = metric(task), len(labels)
    if rows < 2:
        return Difference(math.nan, math.nan, rows)
    mine, theirs = _wide(challenger), _wide(champion)
    if name == "auc":
        return _of_areas(labels.astype(bool), mine[:, 0], theirs[:, 0])
    first, second = (statistic(task, name, labels, outputs) for outputs in (mine, theirs))
    draws = paired_bootstrap(first, second, rows, rng, resamples=RESAMPLES)
    error = float(np.std(draws, ddof=1)) if len(draws) > RESAMPLES // 2 else math.nan
    return Difference(oriented(name, first(ALL) - second(ALL)), error, rows)


def apart(
    task: TaskSpec,
    champion: tuple[np.ndarray, np.ndarray],
    challenger: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> Difference:
    """Of the deciding metric, each arm on (labels, outputs) of its own rows; `rows` are those of the smaller."""
    name, found = metric(task), []
    for labels, outputs in (challenger, champion):
        found.append(_alone(task, name, labels, _wide(outputs), rng))
    (mine, variance), (theirs, other) = found
    rows = min(len(challenger[0]), len(champion[0]))
    return Difference(oriented(name, mine - theirs), math.sqrt(variance + other), rows)


def _alone(
    task: TaskSpec, name: str, labels: np.ndarray, outputs: np.ndarray, rng: np.random.Generator
) -> tuple[float, float]:
    """The figure and the variance of its estimate."""
    rows = len(labels)
    if rows < 2:
        return math.nan, math.nan
    if name == "auc":
        truth = labels.astype(bool)
        positives, negatives = _placements(truth, outputs[:, 0])
        return float(np.mean(positives)) if len(positives) else math.nan, _variance(positives, negatives)
    figure = statistic(task, name, labels, outputs)
    draws = np.array([figure(rng.integers(0, rows, rows)) for _ in range(RESAMPLES)])
    return figure(ALL), float(np.nanvar(draws, ddof=1))


def _of_areas(truth: np.ndarray, mine: np.ndarray, theirs: np.ndarray) -> Difference:
    """DeLong, DeLong and Clarke-Pearson (1988), by the ranks of Sun and Xu (2014)."""
    first, second = _placements(truth, mine), _placements(truth, theirs)
    value = float(np.mean(first[0] - second[0])) if len(first[0]) else math.nan
    return Difference(value, math.sqrt(_variance(first[0] - second[0], first[1] - second[1])), len(truth))


def _placements(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each positive the share of negatives below it, for each negative that of positives above it; ties half."""
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return np.empty(0), np.empty(0)
    ranks = rankdata(scores)
    return (
        (ranks[truth] - rankdata(scores[truth])) / negative,
        1 - (ranks[~truth] - rankdata(scores[~truth])) / positive,
    )


def _variance(positives: np.ndarray, negatives: np.ndarray) -> float:
    """Of the mean of placements; NaN with fewer than two rows of either class."""
    if min(len(positives), len(negatives)) < 2:
        return math.nan
    return float(np.var(positives, ddof=1) / len(positives) + np.var(negatives, ddof=1) / len(negatives))


def _wide(outputs: np.ndarray) -> np.ndarray:
    return outputs.reshape(-1, 1) if outputs.ndim == 1 else outputs
