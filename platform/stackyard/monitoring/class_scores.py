"""Answers that name one of several classes against the truth, in counts that add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from stackyard.monitoring import intervals
from stackyard.monitoring.binary_scores import CALIBRATION, LEAST, calibration_error, calibration_interval
from stackyard.monitoring.intervals import Interval


@dataclass(frozen=True, eq=False)
class ClassScores:
    """Counts and sums over labelled rows."""

    confusion: np.ndarray
    """int64 [classes, classes]: by truth and by the most probable class."""
    calibration: np.ndarray
    """float64 [3, 10]: rows, sum of the greatest probability, rows where it was right."""
    sums: np.ndarray
    """float64 [2]: log loss, its squares."""

    @classmethod
    def empty(cls, classes: int) -> ClassScores:
        """No row."""
        return cls(np.zeros((classes, classes), np.int64), np.zeros((3, CALIBRATION)), np.zeros(2))

    @classmethod
    def of(cls, labels: np.ndarray, outputs: np.ndarray, classes: int) -> ClassScores:
        """From class numbers [rows] and probabilities [rows, classes]. Raises ValueError for anything else."""
        truth, scores = np.asarray(labels, np.float64), np.asarray(outputs, np.float64)
        if (
            scores.shape != (len(truth), classes)
            or not np.isin(truth, np.arange(classes)).all()
            or not np.isfinite(scores).all()
        ):
            raise ValueError(f"labels must be class numbers below {classes}, outputs a probability for each class")
        true, named = truth.astype(np.int64), scores.argmax(axis=1) if len(scores) else np.zeros(0, np.int64)
        rows = np.arange(len(true))
        loss = -np.log(np.clip(scores[rows, true] / np.maximum(scores.sum(axis=1), LEAST), LEAST, 1.0))
        sure = np.clip(scores[rows, named], 0.0, 1.0)
        place = np.minimum((sure * CALIBRATION).astype(np.int64), CALIBRATION - 1)
        weights = (None, sure, (named == true).astype(np.float64))
        return cls(
            np.bincount(true * classes + named, minlength=classes * classes).reshape(classes, classes),
            np.array([np.bincount(place, weight, CALIBRATION) for weight in weights], np.float64),
            np.array([loss.sum(), (loss**2).sum()]),
        )

    @property
    def rows(self) -> int:
        """Labelled rows."""
        return int(self.confusion.sum())

    def __add__(self, other: ClassScores) -> ClassScores:
        if self.confusion.shape != other.confusion.shape:
            raise ValueError("scores of different classes do not add up")
        return ClassScores(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))

    def metrics(self) -> dict[str, float]:
        """Every figure that these rows can give; the share of each class is `share_0`, `share_1`, ..."""
        if not self.rows:
            return {}
        shares = self.confusion.sum(axis=1) / self.rows
        return {
            "log_loss": float(self.sums[0]) / self.rows,
            "accuracy": float(np.trace(self.confusion)) / self.rows,
            "macro_f1": float(_macro_f1(self.confusion[None])[0]),
            "calibration_error": calibration_error(self.calibration),
            "rows": float(self.rows),
            **{f"share_{place}": float(share) for place, share in enumerate(shares)},
        }

    def interval(
        self, metric: str, confidence: float = 0.95, rng: np.random.Generator | None = None
    ) -> Interval | None:
        """Of `metric`, two-sided; None where these rows cannot give one.

        Macro F1 and the calibration error are bootstrapped from the counts 1,000 times; `rng` absent: a fixed seed.
        """
        if not self.rows:
            return None
        match metric:
            case "accuracy":
                return intervals.share(np.trace(self.confusion), self.rows, confidence)
            case "log_loss":
                return intervals.mean(self.sums[0], self.sums[1], self.rows, confidence)
            case "calibration_error":
                return calibration_interval(self.calibration, confidence, rng)
            case "macro_f1":
                rng = rng or np.random.default_rng(0)
                drawn = rng.multinomial(self.rows, self.confusion.ravel() / self.rows, size=1000)
                found = _macro_f1(drawn.reshape(-1, *self.confusion.shape))
                low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
                return float(low), float(high)
        return None

    def plain(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"task": "multiclass", **{part.name: getattr(self, part.name).tolist() for part in fields(self)}}

    @classmethod
    def load(cls, plain: Mapping[str, Any]) -> ClassScores:
        """What `plain` wrote."""
        return cls(
            np.asarray(plain["confusion"], np.int64),
            np.asarray(plain["calibration"], np.float64).reshape(3, CALIBRATION),
            np.asarray(plain["sums"], np.float64).reshape(2),
        )


def _macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Mean F1 over classes, of each table in [tables, classes, classes]; a class without a row or a call has 0."""
    right = np.diagonal(confusion, axis1=1, axis2=2)
    either = confusion.sum(axis=1) + confusion.sum(axis=2)
    return (2 * right / np.maximum(either, 1)).mean(axis=1)
