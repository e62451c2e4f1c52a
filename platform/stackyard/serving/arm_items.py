"""Which requests a challenger sees, and those requests on their way to it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from stackyard.serving.batching import Ask


def assigned(salt: str, value: str, share: float) -> bool:
    """Whether `value` is of the `share` of callers that a challenger sees; a larger share keeps all of a smaller."""
    digest = hashlib.blake2b(f"{salt}\0{value}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def caller(ask: Ask, key: str | None) -> str:
    """What keeps a request's caller on one arm: its first row's `key`, or the request id where there is none."""
    value: Any = ask.rows[0].get(key) if key is not None else None
    if value is None:
        return ask.request_id
    return repr(float(value)) if type(value) in (int, float) and abs(value) < 2**53 else str(value)


@dataclass(frozen=True, slots=True)
class Item:
    """Requests on their way to the process; a shadow's have no asks, as nobody waits for them."""

    names: list[tuple[str, int]]
    counts: list[int]
    frame: pl.DataFrame | None
    asks: list[Ask]
    since: float
    release: int
    moment: float | None = None
    """When the champion answered, by the stack's clock; None for a canary's."""
    spans: list[tuple[int, int]] | None = None
    """Which rows of `frame` are meant; None: all."""

    def apart(self) -> Iterator[Item]:
        """One item per request, in order; `spans` must be None."""
        row = 0
        for index, count in enumerate(self.counts):
            asks, names, span = self.asks[index : index + 1], self.names[row : row + count], [(row, row + count)]
            yield replace(self, names=names, counts=[count], asks=asks, spans=span)
            row += count

    def picked(self) -> pl.DataFrame:
        """The rows that are meant."""
        assert self.frame is not None
        if self.spans is None:
            return self.frame
        return pl.concat([self.frame.slice(start, end - start) for start, end in self.spans])
