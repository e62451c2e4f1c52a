"""What a chain of Releases says by itself, whoever read it: where a rollback leads. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol


class Live(Protocol):
    """What a Release says of the champion."""

    @property
    def champion(self) -> str: ...
    @property
    def outcome(self) -> str | None: ...


def former(chain: Sequence[Live]) -> str | None:
    """The champion that a rollback of the newest Release's returns to: the last one before it that nobody took back."""
    taken_back: set[str] = set()
    for before, after in pairwise(chain):
        if before.champion != after.champion:
            taken_back.discard(after.champion)
            taken_back |= {before.champion} if after.outcome == "rolled_back" else set()
    others = (each.champion for each in reversed(chain) if each.champion != chain[-1].champion)
    return next((bundle for bundle in others if bundle not in taken_back), None)
