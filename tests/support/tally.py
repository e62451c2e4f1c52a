"""What the life-cycle suite counts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import NamedTuple


class Row(NamedTuple):
    """One kill: when it came, what came after, and how that ended."""

    operation: str
    event: str
    occurrence: str
    victim: str
    then: str
    killed: bool
    wrong: str
    seconds: float

    def __str__(self) -> str:
        ended = "never hit" if not self.killed else self.wrong or "converged"
        when = f"{self.operation:<8}{self.event:<26}{self.occurrence:<15}"
        return f"{when}{self.victim:<8}then {self.then:<6}{self.seconds:5.0f} s  {ended}"


@dataclass
class Tally:
    """What the tests of one run found."""

    rows: list[Row] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)

    def line(self) -> str:
        """The run in one JSON object."""
        converged = sum(row.killed and not row.wrong for row in self.rows)
        counts = {"kill_points": len(self.rows), "converged": converged, "leftovers": len(self.leftovers)}
        return json.dumps(counts)
