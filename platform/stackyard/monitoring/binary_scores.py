"""Yes-or-no answers against the truth, in counts that add up: every figure of the task follows from them.

Scores are counted in 1,024 bins of equal width in log-odds, so that rare events are told apart as well as common ones.
Only the AUC is read off the bins (pairs within one bin count half); all other figures are exact sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from stackyard.monitoring import intervals
from stackyard.monitoring.intervals import Interval

BINS = 1024
WIDEST = 12.0
"""Log-odds of the outermost bins: probabilities below 6e-6 and above 1 - 6e-6 share one each."""
CALIBRATION = 10
"""Bins of equal width of the calibration error, as in Naeini, Cooper and Hauskrecht (2015)."""
LEAST = 1e-15
"""Probabilities are clipped here for the log loss, as training's figures are."""


@dataclass(frozen=True, eq=False)
class BinaryScores:
    """Counts and sums over labelled rows."""

    table: np.ndarray
    """int64 [2, 1024]: rows that were false and true, by score bin."""
    calls: np.ndarray
    """int64 [2, 2]: by truth and by whether the score was at least 0.5."""
    calibration: np.ndarray
    """float64 [3, 10]: rows, sum of scores, sum of truths."""
    sums: np.ndarray
    """float64 [4]: log loss, its squares, Brier's squared error, its squares."""

    @classmethod
    def empty(cls) -> BinaryScores:
        """No row."""
        return cls(np.zeros((2, BINS), np.int64), np.zeros((2, 2), np.int64), np.zeros((3, CALIBRATION)), np.zeros(4))

    @classmethod
    def of(cls, labels: np.ndarray, outputs: np.ndarray) -> BinaryScores:
        """From labels 0/1 [rows] and probabilities of true [rows]. Raises ValueError for anything else."""
        truth, score = np.asarray(labels, np.float64), np.asarray(outputs, np.float64).reshape(-1)
        if (
            truth.shape != score.shape
            or not np.isin(truth, (0.0, 1.0)).all()
            or not ((score >= 0) & (score <= 1)).all()
        ):
            raise ValueError("labels must be 0 or 1, outputs probabilities, one for each label")
        yes = truth.astype(np.int64)
        clipped = np.clip(score, LEAST, 1 - LEAST)
        loss = -np.log(np.where(yes == 1, clipped, 1 - clipped))
        error = (score - truth) ** 2
        place = np.minimum((score * CALIBRATION).astype(np.int64), CALIBRATION - 1)
        return cls(
            np.bincount(yes * BINS + score_bin(score), minlength=2 * BINS).reshape(2, BINS),
            np.bincount(yes * 2 + (score >= 0.5), minlength=4).reshape(2, 2),
            np.array([np.bincount(place, weights, CALIBRATION) for weights in (None, score, truth)], np.float64),
            np.array([loss.sum(), (loss**2).sum(), error.sum(), (error**2).sum()]),
        )

    @property
    def rows(self) -> int:
        """Labelled rows."""
        return int(self.calls.sum())

    def __add__(self, other: BinaryScores) -> BinaryScores:
        return BinaryScores(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))

    def metrics(self) -> dict[str, float]:
        """Every figure that these rows can give."""
        if not self.rows:
            return {}
        (no, wrong_yes), (wrong_no, yes) = self.calls.tolist()
        found = {
            "log_loss": float(self.sums[0]) / self.rows,
            "brier": float(self.sums[2]) / self.rows,
            "accuracy": (no + yes) / self.rows,
            "precision": yes / max(yes + wrong_yes, 1),
            "recall": yes / max(yes + wrong_no, 1),
            "f1": 2 * yes / max(2 * yes + wrong_yes + wrong_no, 1),
            "base_rate": (yes + wrong_no) / self.rows,
            "calibration_error": calibration_error(self.calibration),
            "rows": float(self.rows),
        }
        if self.table.sum(axis=1).min() > 0:
            found["auc"] = intervals.auc(*self.table)[0]
        return found

    def interval(
        self, metric: str, confidence: float = 0.95, rng: np.random.Generator | None = None
    ) -> Interval | None:
        """Of `metric`, two-sided; None where these rows cannot give one. `rng` draws for the calibration error only."""
        (no, wrong_yes), (wrong_no, yes) = self.calls.tolist()
        match metric:
            case "auc":
                return intervals.area(self.table[0], self.table[1], confidence)
            case "log_loss":
                return intervals.mean(self.sums[0], self.sums[1], self.rows, confidence)
            case "brier":
                return intervals.mean(self.sums[2], self.sums[3], self.rows, confidence)
            case "accuracy":
                return intervals.share(no + yes, self.rows, confidence)
            case "base_rate":
                return intervals.share(yes + wrong_no, self.rows, confidence)
            case "precision":
                return intervals.share(yes, yes + wrong_yes, confidence)
            case "recall":
                return intervals.share(yes, yes + wrong_no, confidence)
            case "f1":  # a monotone function of the share of true positives among all but true negatives
                ends = intervals.share(yes, yes + wrong_yes + wrong_no, confidence)
                return None if ends is None else (2 * ends[0] / (1 + ends[0]), 2 * ends[1] / (1 + ends[1]))
            case "calibration_error":
                return calibration_interval(self.calibration, confidence, rng)
        return None

    def plain(self) -> dict[str, Any]:
        """JSON-ready; empty score bins are left out."""
        used = np.flatnonzero(self.table.sum(axis=0))
        return {
            "task": "binary",
            "bins": used.tolist(),
            "table": self.table[:, used].tolist(),
            "calls": self.calls.tolist(),
            "calibration": self.calibration.tolist(),
            "sums": self.sums.tolist(),
        }

    @classmethod
    def load(cls, plain: Mapping[str, Any]) -> BinaryScores:
        """What `plain` wrote."""
        table = np.zeros((2, BINS), np.int64)
        table[:, np.asarray(plain["bins"], np.int64)] = np.asarray(plain["table"], np.int64).reshape(2, -1)
        return cls(
            table,
            np.asarray(plain["calls"], np.int64).reshape(2, 2),
            np.asarray(plain["calibration"], np.float64).reshape(3, CALIBRATION),
            np.asarray(plain["sums"], np.float64).reshape(4),
        )


def score_bin(score: np.ndarray) -> np.ndarray:
    """The bin of each probability [rows]; bins rise with it."""
    with np.errstate(divide="ignore"):
        odds = np.log(score) - np.log1p(-score)
    return ((np.clip(odds, -WIDEST, WIDEST) + WIDEST) * ((BINS - 1) / (2 * WIDEST)) + 0.5).astype(np.int64)


def calibration_error(table: np.ndarray) -> float:
    """Mean distance between score and frequency over bins, weighted by rows: Naeini et al. (2015).

    `table` [3, bins]: rows, sum of scores, sum of hits.
    """
    return float(np.abs(table[1] - table[2]).sum() / max(table[0].sum(), 1))


def calibration_interval(table: np.ndarray, confidence: float, rng: np.random.Generator | None) -> Interval | None:
    """Of the calibration error, by 1,000 parametric bootstraps of the hits of each bin; `rng` absent: a fixed seed."""
    rows = table[0].astype(np.int64)
    if not rows.sum():
        return None
    rng = rng or np.random.default_rng(0)
    hits = rng.binomial(rows, table[2] / np.maximum(rows, 1), size=(1000, len(rows)))
    errors = np.abs(table[1] - hits).sum(axis=1) / rows.sum()
    low, high = np.quantile(errors, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
