"""Between which values a figure may lie, given how few rows it was measured on: closed forms, two-sided."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

Interval = tuple[float, float]
"""Lower and upper end."""


def normal(confidence: float) -> float:
    """How many standard errors a two-sided interval of `confidence` reaches to each side."""
    return float(stats.norm.ppf(0.5 + confidence / 2))


def share(hits: float, rows: float, confidence: float) -> Interval | None:
    """Of a proportion of `hits` in `rows`: Wilson, "Probable Inference" (1927). None without rows."""
    if rows <= 0:
        return None
    z, found = normal(confidence), hits / rows
    middle = (found + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(found * (1 - found) / rows + z * z / (4 * rows * rows))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def mean(total: float, squares: float, rows: int, confidence: float) -> Interval | None:
    """Of a mean, from the sum of values and of their squares, by Student's t. None for fewer than two rows."""
    if rows < 2:
        return None
    found = total / rows
    variance = max(squares / rows - found * found, 0.0) * rows / (rows - 1)
    half = float(stats.t.ppf(0.5 + confidence / 2, rows - 1)) * math.sqrt(variance / rows)
    return float(found - half), float(found + half)


def auc(negatives: np.ndarray, positives: np.ndarray) -> tuple[float, float]:
    """Area under the ROC curve and its variance, from counts [bins] by rising score; a tie counts half.

    DeLong, DeLong and Clarke-Pearson, "Comparing the Areas under Two or More Correlated ROC Curves" (1988), on grouped
    scores. Both counts must hold something; the variance is NaN where either holds one row.
    """
    below, above = int(negatives.sum()), int(positives.sum())
    beaten = (np.cumsum(negatives) - negatives / 2) / below  # of a positive in this bin: share of negatives under it
    beating = (above - np.cumsum(positives) + positives / 2) / above
    area = float((positives * beaten).sum() / above)
    with np.errstate(divide="ignore", invalid="ignore"):
        among_positives = (positives * (beaten - area) ** 2).sum() / np.float64(above - 1)
        among_negatives = (negatives * (beating - area) ** 2).sum() / np.float64(below - 1)
    return area, float(among_positives / above + among_negatives / below)


def area(negatives: np.ndarray, positives: np.ndarray, confidence: float) -> Interval | None:
    """Of the area under the ROC curve: DeLong's variance on the logit scale (Pepe 2003, 5.2). None where unknown.

    Where every pair is ordered the same way the variance says nothing, and the rule is that of n successes in n.
    """
    if min(negatives.sum(), positives.sum()) < 2:
        return None
    found, variance = auc(negatives, positives)
    if not 0 < found < 1:
        worst = ((1 - confidence) / 2) ** (1 / float(min(negatives.sum(), positives.sum())))
        return (worst, 1.0) if found >= 1 else (0.0, 1 - worst)
    half = normal(confidence) * math.sqrt(variance) / (found * (1 - found))
    middle = math.log(found / (1 - found))
    return float(1 / (1 + math.exp(half - middle))), float(1 / (1 + math.exp(-half - middle)))
