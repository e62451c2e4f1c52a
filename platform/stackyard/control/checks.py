"""One thing that was looked at before a decision, in a form that people, files and tests share.

Gates and rollout stages say what they judged, by which figure against which limit, and what was missing.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


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


def finite(value: Any) -> Any:
    """The same with None for every number that JSON has not."""
    if isinstance(value, dict):
        return {str(name): finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
