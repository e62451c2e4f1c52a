"""How long answers took, as counts in fixed bins that add up: quantiles to within one per cent."""

from __future__ import annotations

import numpy as np
import polars as pl

_EDGES = np.geomspace(1e-5, 1e3, 1852)
"""Seconds; each bin is 1 % wider than the one before."""


class Latencies:
    """Counts of times in seconds."""

    def __init__(self, counts: np.ndarray | None = None) -> None:
        self._counts = np.zeros(len(_EDGES) + 1, np.int64) if counts is None else counts

    @property
    def total(self) -> int:
        """Times counted."""
        return int(self._counts.sum())

    def add(self, seconds: pl.Series) -> None:
        """Count these too; missing ones are none."""
        values = seconds.drop_nulls().to_numpy()
        self._counts += np.bincount(np.searchsorted(_EDGES, values), minlength=len(self._counts))

    def __add__(self, other: Latencies) -> Latencies:
        """Both."""
        return Latencies(self._counts + other._counts)

    def quantile(self, share: float) -> float | None:
        """The time that `share` of all do not exceed, rounded up to a bin's end; None without any."""
        if not self.total:
            return None
        place = int(np.searchsorted(np.cumsum(self._counts), share * self.total))
        return float(_EDGES[min(place, len(_EDGES) - 1)])

    def above(self, limit: float) -> int:
        """How many lie in bins that begin at `limit` or later."""
        return int(self._counts[int(np.searchsorted(_EDGES, limit)) + 1 :].sum())
