"""How far two distributions are apart, from counts in the same bins, corrected for how few rows there are.

The last axis of every array is the bins; the others are as many comparisons at once. Counts are never negative. A bin
that is empty on both sides does not exist; half a row is added to the others (Jeffreys' prior), so that a logarithm of
nothing is never asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

Metric = Literal["psi", "js", "kl"]

CONFIDENCE = 0.9
"""One-sided, of the lower bound of an effect; k windows must say so, which makes it surer."""
SPARSE = 5.0
"""Bins of the chi-square test that expect fewer rows are taken together (Cochran 1954)."""


@dataclass(frozen=True)
class Distance:
    """A distance: 0 where nothing has moved."""

    value: float

    def exceeds(self, limit: float) -> bool:
        """Whether it is farther than `limit`."""
        return self.value > limit


@dataclass(frozen=True)
class PValue:
    """How often so much would be seen if nothing had moved: small where something has."""

    value: float

    def rejects(self, alpha: float) -> bool:
        """Whether it is too small for "nothing has moved" at level `alpha`."""
        return self.value <= alpha


@dataclass(frozen=True)
class Effect:
    """An effect size with what sampling does to it; arrays of the comparisons' shape."""

    raw: np.ndarray
    """The plug-in value."""
    value: np.ndarray
    """The raw value less its expectation when nothing has moved; never below 0."""
    low: np.ndarray
    """Lower bound of the true value at CONFIDENCE, one-sided; never below 0."""


def shares(counts: np.ndarray, exists: np.ndarray) -> np.ndarray:
    """Smoothed shares; 0 where a bin does not exist. A side without rows is spread evenly."""
    filled = np.where(exists, np.asarray(counts, np.float64) + 0.5, 0.0)
    return filled / np.maximum(filled.sum(axis=-1, keepdims=True), 0.5)


def psi(live: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Population stability index, sum (p - q) ln(p / q), natural logarithm: Jeffreys' divergence.

    Siddiqi, "Credit Risk Scorecards" (2006); Yurdakul and Naranjo, "Statistical properties of the population stability
    index" (2020).
    """
    p, q, exists = _pair(live, reference)
    return np.where(exists, (p - q) * _log(p, q, exists), 0.0).sum(axis=-1)


def kl(live: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Divergence of live from reference, sum p ln(p / q), in nats: Kullback and Leibler (1951)."""
    p, q, exists = _pair(live, reference)
    return np.where(exists, p * _log(p, q, exists), 0.0).sum(axis=-1)


def js(live: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence in nats, 0 to ln 2: Lin, "Divergence measures based on the Shannon entropy" (1991).

    It is the square of scipy's `jensenshannon`.
    """
    p, q, exists = _pair(live, reference)
    middle = (p + q) / 2
    return np.where(exists, (p * _log(p, middle, exists) + q * _log(q, middle, exists)) / 2, 0.0).sum(axis=-1)


def ks(live: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Kolmogorov and Smirnov's distance between ordered bins: the greatest gap of the cumulative shares.

    At most that of the raw values, and equal to it where the gap is widest at an edge.
    """
    sides = [np.asarray(counts, np.float64) for counts in (live, reference)]
    rising = [np.cumsum(side, -1) / np.maximum(side.sum(-1, keepdims=True), 1.0) for side in sides]
    return np.abs(rising[0] - rising[1]).max(axis=-1)


def chi_square(live: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pearson's test that both sides are drawn from one distribution: statistic and p-value.

    As scipy's `chi2_contingency(..., correction=False)` of the two rows, with sparse bins taken together. The p-value
    is 1 where fewer than two bins are left or a side is empty.
    """
    one, two = (np.asarray(counts, np.float64) for counts in np.broadcast_arrays(live, reference))
    totals = one.sum(-1, keepdims=True), two.sum(-1, keepdims=True)
    every = np.maximum(totals[0] + totals[1], 1.0)
    sparse = (one + two) * np.minimum(*totals) / every < SPARSE
    sides = [
        np.concatenate([np.where(sparse, 0, side), (side * sparse).sum(-1, keepdims=True)], -1) for side in (one, two)
    ]
    both = sides[0] + sides[1]
    statistic = np.zeros(both.shape[:-1])
    for side, rows in zip(sides, totals, strict=True):
        expected = both * rows / every
        statistic += np.divide((side - expected) ** 2, expected, out=np.zeros_like(both), where=expected > 0).sum(-1)
    freedom = (both > 0).sum(-1) - 1
    known = (freedom > 0) & (totals[0][..., 0] > 0) & (totals[1][..., 0] > 0)
    return statistic, np.where(known, stats.chi2.sf(statistic, np.maximum(freedom, 1)), 1.0)


def effect(metric: Metric, live: np.ndarray, reference: np.ndarray) -> Effect:
    """The effect size `metric` of live against reference counts, less what sampling alone brings, and its lower bound.

    With b bins, n and m rows and nothing moved, PSI times nm / (n + m) is about chi-square with b - 1 degrees of
    freedom (Yurdakul and Naranjo 2020), so PSI is about (b - 1)(1/n + 1/m) from sampling alone, KL half and JS an
    eighth of that (all three are one quadratic form to second order). The bound's variance is that of the delta method,
    which holds far from 0, plus that chi-square's, which holds at 0.
    """
    p, q, exists = _pair(live, reference)
    n, m = (np.maximum(np.asarray(counts, np.float64).sum(-1), 1.0) for counts in (live, reference))
    raw = {"psi": psi, "kl": kl, "js": js}[metric](live, reference)
    scale = {"psi": 1.0, "kl": 0.5, "js": 0.125}[metric]
    noise = scale * (1 / n + 1 / m)
    freedom = np.maximum(exists.sum(-1) - 1, 0)
    of_live, of_reference = _gradients(metric, p, q, exists)
    variance = _variance(p, of_live) / n + _variance(q, of_reference) / m + 2 * freedom * noise**2
    value = raw - freedom * noise
    low = value - float(stats.norm.ppf(CONFIDENCE)) * np.sqrt(variance)
    return Effect(raw, np.maximum(value, 0.0), np.maximum(low, 0.0))


def false_discoveries(p_values: np.ndarray) -> np.ndarray:
    """P-values adjusted along the last axis: rejecting those up to alpha keeps the false discovery rate at alpha.

    Benjamini and Hochberg (1995); it holds for independent and for positively dependent tests (Benjamini and Yekutieli
    2001).
    """
    values = np.asarray(p_values, np.float64)
    many = values.shape[-1]
    order = np.argsort(values, axis=-1)
    ranked = np.take_along_axis(values, order, -1) * many / np.arange(1, many + 1)
    ranked = np.minimum(np.minimum.accumulate(ranked[..., ::-1], axis=-1)[..., ::-1], 1.0)
    adjusted = np.empty_like(ranked)
    np.put_along_axis(adjusted, order, ranked, -1)
    return adjusted


def _pair(live: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    one, two = np.broadcast_arrays(live, reference)
    exists = (one + two) > 0
    return shares(one, exists), shares(two, exists), exists


def _log(p: np.ndarray, q: np.ndarray, exists: np.ndarray) -> np.ndarray:
    return np.log(np.where(exists, p, 1.0)) - np.log(np.where(exists, q, 1.0))


def _gradients(metric: Metric, p: np.ndarray, q: np.ndarray, exists: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of the metric by live and by reference shares."""
    p, q = np.where(exists, p, 1.0), np.where(exists, q, 1.0)
    if metric == "psi":
        return np.log(p / q) + 1 - q / p, np.log(q / p) + 1 - p / q
    if metric == "kl":
        return np.log(p / q) + 1, -p / q
    return np.log(2 * p / (p + q)) / 2, np.log(2 * q / (p + q)) / 2


def _variance(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    mean = (weights * values).sum(-1, keepdims=True)
    return (weights * (values - mean) ** 2).sum(-1)
