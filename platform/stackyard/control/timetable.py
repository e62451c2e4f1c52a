"""Time tables, quiet hours and days as a wall clock shows them, where hours are skipped and repeated twice a year."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from cronsim import CronSim


def newest_firing(cron: str, zone: str, now: dt.datetime) -> dt.datetime | None:
    """When the time table last fired at or before `now`, UTC; None if it has not within 28 years."""
    later = (now.astimezone(dt.UTC).replace(second=0, microsecond=0) + dt.timedelta(minutes=1)).astimezone(
        ZoneInfo(zone)
    )
    for found in CronSim(cron, later, reverse=True):
        if (fired := found.astimezone(dt.UTC)) <= now:
            return fired
    return None


def is_quiet(hours: str, zone: str, now: dt.datetime) -> bool:
    """Whether the wall clock of `zone` is within `hours` (HH:MM-HH:MM, end excluded, midnight may lie within)."""
    first, last = (dt.time.fromisoformat(part) for part in hours.split("-"))
    wall = now.astimezone(ZoneInfo(zone)).time()
    return first <= wall < last if first <= last else wall >= first or wall < last


def quiet_until(hours: str, zone: str, now: dt.datetime) -> dt.datetime:
    """The first minute that is not quiet: asked one by one, so that an hour which a zone skips or repeats is right."""
    minute = now.astimezone(dt.UTC).replace(second=0, microsecond=0)
    while is_quiet(hours, zone, minute):
        minute += dt.timedelta(minutes=1)
    return minute


def next_firing(cron: str, zone: str, now: dt.datetime) -> dt.datetime | None:
    """When the time table fires next after `now`, UTC."""
    following = next(iter(CronSim(cron, now.astimezone(ZoneInfo(zone)))), None)
    return None if following is None else following.astimezone(dt.UTC)


def day_of(time: dt.datetime, zone: str) -> dt.date:
    """The date that a calendar in `zone` shows."""
    return time.astimezone(ZoneInfo(zone)).date()


def next_midnight(now: dt.datetime, zone: str) -> dt.datetime:
    """When the next day of `zone` begins, UTC."""
    return dt.datetime.combine(day_of(now, zone) + dt.timedelta(days=1), dt.time(), ZoneInfo(zone)).astimezone(dt.UTC)
