"""A broken rule, before it is known in which file and line the place to blame was written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stackyard.spec.problems import Keys


@dataclass(frozen=True)
class Finding:
    """A broken rule. `keys` is the place to blame, `instead` the one if `keys` was left to its default."""

    code: str
    keys: Keys
    rule: str
    remedy: str
    value: Any = None
    suggestion: str | None = None
    instead: Keys | None = None
