"""A time table that the spec takes is one that the scheduler can read, and that fires."""

from __future__ import annotations

import datetime as dt

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import given, settings
from hypothesis import strategies as st

from stackyard.spec.timetables import refusal

NUMBERS = st.integers(0, 65).map(str)
WORDS = st.sampled_from(
    ["*", "*/5", "*/0", "1-3", "3-1", "0-10/2", "MON", "JAN", "mon-fri", "L", "LW", "5L", "MON#2", ""]
)
FIELD = st.lists(st.one_of(NUMBERS, WORDS), min_size=1, max_size=2).map(",".join)
ACCEPTED = ["0 4 * * MON", "*/15 6-18 * JAN-MAR 1-5", "0 0 L * *", "0 9 * * MON#2", "0 0 29 2 *", "30 5 1,15 * 7"]
REFUSED = [
    "60 * * * *",
    "0 0 30 2 *",
    "0 0 31 4,6 *",
    "5-1 * * * *",
    "*/0 * * * *",
    "0 0 * * SUNDAY",
    "0 0 * *",
    "0 0 1, * *",
]


@pytest.mark.parametrize("cron", ACCEPTED)
def test_a_time_table_that_fires_is_taken(cron):
    assert refusal(cron) is None
    assert next(CronSim(cron, dt.datetime(2026, 1, 1)))  # noqa: DTZ001 (a wall clock without a zone)


@pytest.mark.parametrize("cron", REFUSED)
def test_a_time_table_that_never_fires_is_refused(cron):
    assert refusal(cron) is not None


@given(cron=st.lists(FIELD, min_size=5, max_size=5).map(" ".join))
@settings(max_examples=400, deadline=None)
def test_what_is_taken_the_scheduler_can_read(cron):
    if refusal(cron) is None:
        try:
            CronSim(cron, dt.datetime(2026, 1, 1))  # noqa: DTZ001
        except CronSimError as error:
            raise AssertionError(f"{cron} was taken: {error}") from None
