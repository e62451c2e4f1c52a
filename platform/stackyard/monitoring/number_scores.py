"""Answers that are numbers against the truth, in sums that add up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stackyard.monitoring import intervals
from stackyard.monitoring.intervals import Interval

LARGEST = 1e60
"""Errors beyond are counted as this, so that their fourth power stays a number."""


@dataclass(frozen=True)
class NumberScores:
    """Sums over labelled rows, in the label's unit and its powers."""

    rows: int = 0
    label_mean: float = 0.0
    label_squares: float = 0.0
    """Sum of squared distances from `label_mean`."""
    error: float = 0.0
    """Sum of output minus label; then of its size, its square and its fourth power."""
    absolute: float = 0.0
    squared: float = 0.0
    fourth: float = 0.0

    @classmethod
    def of(cls, labels: np.ndarray, outputs: np.ndarray) -> NumberScores:
        """From values [rows] each. Raises ValueError for values that are not finite."""
        truth, found = np.asarray(labels, np.float64), np.asarray(outputs, np.float64).reshape(-1)
        if truth.shape != found.shape or not (np.isfinite(truth).all() and np.isfinite(found).all()):
            raise ValueError("labels and outputs must be finite numbers, one output for each label")
        if not len(truth):
            return cls()
        error = np.clip(found - truth, -LARGEST, LARGEST)
        mean = float(truth.mean())
        return cls(
            rows=len(truth),
            label_mean=mean,
            label_squares=float(((truth - mean) ** 2).sum()),
            error=float(error.sum()),
            absolute=float(np.abs(error).sum()),
            squared=float((error**2).sum()),
            fourth=float((error**4).sum()),
        )

    def __add__(self, other: NumberScores) -> NumberScores:
        if not self.rows or not other.rows:
            return self if self.rows else other
        rows, apart = self.rows + other.rows, other.label_mean - self.label_mean
        return NumberScores(
            rows=rows,
            label_mean=self.label_mean + apart * other.rows / rows,
            label_squares=self.label_squares + other.label_squares + apart**2 * self.rows * other.rows / rows,
            error=self.error + other.error,
            absolute=self.absolute + other.absolute,
            squared=self.squared + other.squared,
            fourth=self.fourth + other.fourth,
        )

    def metrics(self) -> dict[str, float]:
        """Every figure that these rows can give; `bias` is the mean of output minus label."""
        if not self.rows:
            return {}
        found = {
            "rmse": math.sqrt(self.squared / self.rows),
            "mae": self.absolute / self.rows,
            "bias": self.error / self.rows,
            "label_mean": self.label_mean,
            "rows": float(self.rows),
        }
        if self.label_squares > 0:
            found["r2"] = 1 - self.squared / self.label_squares
        return found

    def interval(
        self, metric: str, confidence: float = 0.95, rng: np.random.Generator | None = None
    ) -> Interval | None:
        """Of `metric`, two-sided; None where these rows cannot give one.

        That of `rmse` is the root of the one of the mean squared error; that of `r2` takes the labels' spread as given.
        """
        squares = intervals.mean(self.squared, self.fourth, self.rows, confidence)
        if squares is None:
            return None
        match metric:
            case "rmse":
                return math.sqrt(max(squares[0], 0.0)), math.sqrt(squares[1])
            case "r2" if self.label_squares > 0:
                return tuple(1 - end * self.rows / self.label_squares for end in reversed(squares))  # type: ignore[return-value]
            case "mae":
                return intervals.mean(self.absolute, self.squared, self.rows, confidence)
            case "bias":
                return intervals.mean(self.error, self.squared, self.rows, confidence)
        return None

    def plain(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"task": "regression", **asdict(self)}

    @classmethod
    def load(cls, plain: Mapping[str, Any]) -> NumberScores:
        """What `plain` wrote."""
        return cls(**{name: value for name, value in plain.items() if name != "task"})
