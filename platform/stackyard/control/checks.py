"""One thing that was looked at before a decision, in a form that people, files and tests share.

Gates and rollout stages say what they judged, by which figure against which limit, and what was missing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """One judgement. `passed` is None where it is only reported, or where there is not enough to judge."""

    name: str
    passed: bool | None
    value: float | None
    limit: float | None
    reason: str

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)
