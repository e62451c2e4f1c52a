"""Working hours as a wall clock shows them: spans that may pass midnight, on days of 23, 24 and 25 hours.

Where a zone skips or repeats the minute at which a span begins or ends, the span is the longer one: nobody's work is
ended early by a change of the clocks.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from zoneinfo import ZoneInfo

from stackyard.spec.leases import HoursSpec

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_AROUND = 8
"""Days to either side in which the last and the next span are found: a week, and one for the zone."""

Span = tuple[dt.datetime, dt.datetime]
"""From, and until but not at; UTC."""


def within(hours: HoursSpec, now: dt.datetime) -> bool:
    """Whether `now` lies in a span."""
    return any(begin <= now < end for begin, end in _spans(hours, now))


def ended(hours: HoursSpec, now: dt.datetime) -> dt.datetime | None:
    """When the newest span that is over ended; None where there is none."""
    return max((end for _, end in _spans(hours, now) if end <= now), default=None)


def begins(hours: HoursSpec, now: dt.datetime) -> dt.datetime | None:
    """When the next span begins; None where there is none."""
    return min((begin for begin, _ in _spans(hours, now) if begin > now), default=None)


def _spans(hours: HoursSpec, now: dt.datetime) -> Iterator[Span]:
    zone = ZoneInfo(hours.timezone)
    first, last = (dt.time.fromisoformat(part) for part in hours.span.split("-"))
    for ahead in range(-_AROUND, _AROUND + 1):
        try:
            day = now.astimezone(zone).date() + dt.timedelta(days=ahead)
            if _DAYS[day.weekday()] not in hours.days:
                continue
            until = day if first < last else day + dt.timedelta(days=1)
            yield min(_moments(day, first, zone)), max(_moments(until, last, zone))
        except OverflowError:  # at the end of the calendar
            continue


def _moments(day: dt.date, time: dt.time, zone: ZoneInfo) -> list[dt.datetime]:
    """What the wall clock's minute may be in UTC: two moments where it is skipped or repeated."""
    return [dt.datetime.combine(day, time.replace(fold=fold), zone).astimezone(dt.UTC) for fold in (0, 1)]
