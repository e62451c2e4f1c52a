"""Which requests were counted already: 8 bytes each, so that a month of traffic is remembered exactly."""

from __future__ import annotations

import numpy as np

MOST = 16_000_000
"""Identities remembered, 128 MB; whatever comes after counts as new."""


class Identities:
    """A growing set of 64-bit hashes, as sorted arrays of doubling length (a log-structured merge)."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []
        self._beyond = 0

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts) + self._beyond

    def known(self, ids: np.ndarray) -> np.ndarray:
        """Which of `ids` (uint64) are in the set: bool, of the same length."""
        found = np.zeros(len(ids), dtype=bool)
        for part in self._parts:
            places = np.minimum(np.searchsorted(part, ids), len(part) - 1)
            found |= part[places] == ids
        return found

    def add(self, ids: np.ndarray) -> None:
        """Put `ids` into the set; those that are there already change nothing."""
        new = np.unique(ids[~self.known(ids)])
        if len(self) + len(new) > MOST:
            self._beyond += len(new)
            return
        if len(new):
            self._parts.append(new)
        while len(self._parts) > 1 and 2 * len(self._parts[-1]) > len(self._parts[-2]):
            last = self._parts.pop()
            self._parts[-1] = np.sort(np.concatenate([self._parts[-1], last]))

    def shared(self, other: Identities) -> int:
        """How many are in both sets."""
        return sum(int(self.known(part).sum()) for part in other._parts)
