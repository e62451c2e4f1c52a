"""`pulumi` killed where a lease could lose most: while its gate is made, and between its gate and its cluster.

Slow (seven engine runs), and worth it: the short form of the life-cycle suite's kills at every event.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from killing import NOTHING, UP, Point, ground
from lending import Lent, lived_through
from tally import Tally

pytestmark = [pytest.mark.engine, pytest.mark.slow]
POINTS = (
    Point("up", "resourcePreEvent create EvacuationGate", "first", 1, "up"),
    Point("destroy", "resOutputsEvent delete EvacuationGate", "first", 1, "down"),
)


def test_killed_around_a_gate_with_people_working_on_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    with ground(Lent, tmp_path, monkeypatch) as lent:
        rows = [lived_through(lent, point, state, tally) for point, state in zip(POINTS, (NOTHING, UP), strict=True)]
        assert [str(row) for row in rows if not row.killed or row.wrong] == []
        assert lent.made, "somebody worked on after a kill"
