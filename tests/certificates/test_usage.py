"""How long a cluster ran and what it cost, of lines that a kill may have cut off."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from stackyard.certificates.usage import Usage, used

END = dt.datetime(2026, 3, 1, 20, tzinfo=dt.UTC)
SIZE = {"workers": 2, "cpus": 4, "gpus": 1, "hourly_price": 3.0}


def at(hour: int, what: str = "", generation: int = 1) -> dict[str, Any]:
    return {"at": f"2026-03-01T{hour:02}:00:00+00:00", "what": what, "generation": generation, **SIZE}


OPENED, CLOSED = at(8, "opened"), at(10, "closed")


@pytest.mark.parametrize(
    ("events", "seen", "hours", "openings", "assumed", "unread"),
    [
        pytest.param([], None, 0, 0, 0, 0, id="never-opened"),
        pytest.param([OPENED, CLOSED], None, 2, 1, 0, 0, id="opened-and-closed"),
        pytest.param([OPENED, CLOSED, at(12, "opened", 2), at(13, "closed", 2)], None, 3, 2, 0, 0, id="twice"),
        pytest.param([OPENED], at(11), 3, 1, 1, 0, id="killed-and-last-seen"),
        pytest.param([OPENED], at(11, generation=2), 12, 1, 1, 0, id="seen-in-another-life"),
        pytest.param([OPENED], None, 12, 1, 1, 0, id="killed-and-never-seen"),
        pytest.param([OPENED, at(12, "opened", 2), at(13, "closed", 2)], None, 5, 2, 1, 0, id="opened-again"),
        pytest.param([OPENED, at(12, "opened", 2), at(13, "closed", 2)], at(9), 2, 2, 1, 0, id="opened-again-and-seen"),
        pytest.param([OPENED, None, CLOSED], None, 2, 1, 0, 1, id="a-torn-line"),
        pytest.param([CLOSED], None, 0, 0, 0, 0, id="closed-without-an-opening"),
        pytest.param([at(10, "opened"), at(9, "closed")], None, 0, 1, 0, 0, id="a-clock-that-went-back"),
        pytest.param([OPENED], at(23), 12, 1, 1, 0, id="seen-after-its-end"),
    ],
)
def test_hours_are_summed_over_openings(
    events: list[Any], seen: dict[str, Any] | None, hours: int, openings: int, assumed: int, unread: int
):
    found = used(events, seen, END)
    assert found == Usage(openings, hours * 3600.0, hours * 8.0, hours * 2.0, hours * 3.0, assumed, unread)
