"""A clock that was set ends nothing early; working hours are those of the wall clock, in every night of the year."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackyard.leasing import hours
from stackyard.leasing.clocks import AFTER_BOOT, SETTLED, TOLERANCE, Look, Trust, held, judge
from stackyard.spec.leases import HoursSpec

START = dt.datetime(2027, 2, 1, tzinfo=dt.UTC)
HALF = 1800.0


def lived(*steps: tuple[float, float] | str) -> list[bool]:
    """Whether nothing may be ended after each step: seconds of uptime, seconds that the wall clock was set by beyond
    them, or `boot`, after which uptime begins anew."""
    uptime, wall, boot, trust, found = 1000.0, START, "one", None, []
    trust = judge(None, Look(wall=wall, uptime=uptime, boot=boot))
    for step in steps:
        if isinstance(step, str):
            boot, uptime = boot + "+", 10.0
        else:
            uptime, wall = uptime + step[0], wall + dt.timedelta(seconds=sum(step))
        trust = Trust.model_validate_json(judge(trust, Look(wall=wall, uptime=uptime, boot=boot)).model_dump_json())
        assert (held(trust) is None) is (trust.until is None)
        found.append(held(trust) is not None)
    return found


DAY, YEAR, LONG = 86_400.0, 365 * 86_400.0, 30 * 86_400.0
CLOCKS = {
    "goes-as-it-should": ([(30, 0), (30, 0), (LONG, 0)], [False, False, False]),
    "slept-for-a-weekend": ([(30, 0), (2 * DAY, 0), (30, 0)], [False, False, False]),
    "slewed-by-ntp": ([(DAY, 43), (DAY, -43), (DAY, 43)], [False] * 3),
    "set-ahead-by-a-minute": ([(30, 60), (30, 0)], [False, False]),
    "set-ahead-by-a-year": ([(30, YEAR), (HALF, 0), (HALF - 1, 0), (1, 0), (30, 0)], [True, True, True, False, False]),
    "set-back-by-a-year": ([(30, -YEAR), (HALF, 0), (HALF, 0)], [True, True, False]),
    "set-ahead-and-back": ([(30, YEAR), (HALF, 0), (30, -YEAR), (30, 0)], [True, True, False, False]),
    "set-ahead-again-and-again": ([(30, YEAR), (HALF, YEAR), (HALF, YEAR), (HALF, 0)], [True] * 4),
    "set-ahead-in-small-steps": ([(30, 250), (30, 250), (30, 250)], [False, True, True]),
    "started-again": (["boot", (AFTER_BOOT - 1, 0), (1, 0)], [True, True, False]),
    "started-again-with-a-clock-of-1970": (["boot", (30, -50 * YEAR), (30, 50 * YEAR), (HALF, 0), (HALF, 0)],
                                           [True, True, True, True, False]),
    "started-again-in-the-future-then-set-right": (["boot", (30, YEAR), (60, -YEAR), (AFTER_BOOT, 0), (SETTLED, 0)],
                                                   [True, True, True, True, False]),
    "set-ahead-and-started-again": ([(30, YEAR), "boot", (AFTER_BOOT, 0), (SETTLED, 0)], [True, True, True, False]),
    "off-for-a-month": ([(30, 0), "boot", (AFTER_BOOT, LONG), (SETTLED, 0)], [False, True, True, False]),
}  # fmt: skip


@pytest.mark.parametrize(("steps", "want"), CLOCKS.values(), ids=CLOCKS.keys())
def test_a_clock_that_was_set_is_not_believed_until_it_has_stood(
    steps: list[tuple[float, float] | str], want: list[bool]
) -> None:
    assert lived(*steps) == want


def test_a_clock_that_is_earlier_after_a_boot_waits_the_whole_hour() -> None:
    before = judge(None, Look(wall=START, uptime=10.0, boot="one"))
    earlier = Look(wall=START - dt.timedelta(days=1), uptime=10.0, boot="two")
    trust = judge(before, earlier)
    for uptime, doubted in ((AFTER_BOOT + 10, True), (SETTLED + 9, True), (SETTLED + 10, False)):
        trust = judge(trust, Look(wall=earlier.wall + dt.timedelta(seconds=uptime), uptime=uptime, boot="two"))
        assert (held(trust) is not None) is doubted


def test_what_was_noted_and_lost_waits_as_a_boot_does() -> None:
    trust = judge(None, Look(wall=START, uptime=10.0, boot="one"), lost=True)
    assert held(trust) is not None
    trust = judge(trust, Look(wall=START, uptime=10.0 + AFTER_BOOT, boot="one"))
    assert held(trust) is not None  # the wall clock stood still meanwhile
    assert held(judge(None, Look(wall=START, uptime=10.0, boot="one"))) is None


@given(st.lists(st.tuples(st.floats(1, 600), st.floats(-1e6, 1e6)), max_size=20))
def test_a_jump_is_never_believed_at_once(steps: list[tuple[float, float]]) -> None:
    uptime, wall, trust = 1000.0, START, judge(None, Look(wall=START, uptime=1000.0, boot="b"))
    for passed, ahead in steps:
        uptime, wall = uptime + passed, wall + dt.timedelta(seconds=passed + ahead)
        believed = trust.until is None
        trust = judge(trust, Look(wall=wall, uptime=uptime, boot="b"))
        if believed and trust.until is None:
            assert abs(ahead) <= 2 * TOLERANCE


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


SPANS = {
    "office": ("07:00-20:00", "UTC", "2027-02-01 07:00", "2027-02-01 20:00"),
    "past-midnight": ("22:00-06:00", "UTC", "2027-02-01 22:00", "2027-02-02 06:00"),
    "friday-past-midnight": ("22:00-06:00", "UTC", "2027-02-05 22:00", "2027-02-06 06:00"),
    "another-zone": ("07:00-20:00", "Europe/Zurich", "2027-02-01 06:00", "2027-02-01 19:00"),
    "in-summer": ("07:00-20:00", "Europe/Zurich", "2027-07-01 05:00", "2027-07-01 18:00"),
    "over-the-short-night": ("22:00-06:00", "Europe/Zurich", "2027-03-26 21:00", "2027-03-27 05:00"),
    "begins-in-an-hour-that-is-skipped": ("02:30-08:00", "America/Los_Angeles", "2027-03-15 09:30", "2027-03-15 15:00"),
}


@pytest.mark.parametrize(("span", "zone", "begin", "end"), SPANS.values(), ids=SPANS.keys())
def test_it_may_run_from_the_first_minute_to_the_last(span: str, zone: str, begin: str, end: str) -> None:
    told, first, last = HoursSpec(span=span, timezone=zone), utc(begin), utc(end)
    minute = dt.timedelta(minutes=1)
    assert [hours.within(told, at) for at in (first - minute, first, last - minute, last)] == [False, True, True, False]
    assert hours.ended(told, last) == last
    assert hours.begins(told, first - minute) == first


ALL = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@pytest.mark.parametrize(
    ("span", "begin", "end"),
    [
        pytest.param("22:00-06:00", "2027-03-27 21:00", "2027-03-28 04:00", id="the-short-night-is-shorter"),
        pytest.param("22:00-06:00", "2027-10-30 20:00", "2027-10-31 05:00", id="the-long-night-is-longer"),
        pytest.param("01:00-02:30", "2027-03-28 00:00", "2027-03-28 01:30", id="ends-in-the-skipped-hour"),
        pytest.param("02:30-05:00", "2027-03-28 00:30", "2027-03-28 03:00", id="begins-in-the-skipped-hour"),
        pytest.param("01:00-02:30", "2027-10-30 23:00", "2027-10-31 01:30", id="ends-in-the-repeated-hour"),
        pytest.param("02:30-05:00", "2027-10-31 00:30", "2027-10-31 04:00", id="begins-in-the-repeated-hour"),
    ],
)
def test_where_the_clocks_change_the_longer_span_holds(span: str, begin: str, end: str) -> None:
    told = HoursSpec(span=span, days=ALL, timezone="Europe/Zurich")
    first, last, minute = utc(begin), utc(end), dt.timedelta(minutes=1)
    assert [hours.within(told, at) for at in (first - minute, first, last - minute, last)] == [False, True, True, False]


def test_days_are_those_on_which_a_span_begins() -> None:
    told = HoursSpec(span="22:00-06:00", days=("fri",))
    assert hours.within(told, utc("2027-02-06 05:00"))  # a Saturday
    assert not hours.within(told, utc("2027-02-05 05:00"))
    assert hours.begins(told, utc("2027-02-06 12:00")) == utc("2027-02-12 22:00")
