"""What a cluster has cost: the spans in which it ran, of what infra noted when it started and ended processes.

An opening that was never closed (a kill, a reboot) ended when it was last seen running: nobody pays for what nobody
saw, and the look that runs twice a minute leaves little unseen.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from stackyard.leasing.facts import Seen, Used

_HOUR = 3600.0


@dataclass(frozen=True)
class Span:
    """A time in which it ran."""

    began: dt.datetime
    ended: dt.datetime | None
    """None while it runs."""
    opened: Used

    def hours(self, now: dt.datetime) -> float:
        """How long it was, or is at `now`."""
        return max(0.0, ((self.ended or now) - self.began).total_seconds()) / _HOUR


@dataclass(frozen=True)
class Bill:
    """What all of it comes to."""

    hours: float
    cpu_hours: float
    gpu_hours: float
    cost: float


def spans(usage: Sequence[Used], seen: Seen | None, *, running: bool) -> list[Span]:
    """When it ran, in the order of the notes; the last one has no end while it is `running`."""
    found: list[Span] = []
    held: Used | None = None
    for each in usage:
        if held is not None:
            ended = each.at if each.what == "closed" else _unclosed(held, each.at, seen)
            found.append(Span(held.at, max(held.at, ended), held))
        held = each if each.what == "opened" else None
    if held is not None:
        found.append(Span(held.at, None if running else _unclosed(held, None, seen), held))
    return found


def bill(found: Sequence[Span], now: dt.datetime) -> Bill:
    """Hours, and what they cost at the price that held when each began."""
    hours = [(each, each.hours(now)) for each in found]
    return Bill(
        hours=sum(hour for _, hour in hours),
        cpu_hours=sum(hour * each.opened.workers * each.opened.cpus for each, hour in hours),
        gpu_hours=sum(hour * each.opened.workers * each.opened.gpus for each, hour in hours),
        cost=sum(hour * each.opened.hourly_price for each, hour in hours),
    )


def reaches(found: Sequence[Span], money: float) -> dt.datetime | None:
    """When the cost comes, or came, to `money`; None while nothing that runs leads there."""
    spent = 0.0
    for each in found:
        price, left = each.opened.hourly_price, money - spent
        cost = 0.0 if each.ended is None else price * each.hours(each.ended)
        if price > 0 and (each.ended is None or cost >= left):
            try:
                return each.began + dt.timedelta(hours=max(0.0, left) / price)
            except OverflowError:
                return None
        spent += cost
    return None


def _unclosed(held: Used, following: dt.datetime | None, seen: Seen | None) -> dt.datetime:
    """When an opening without a close ended, as far as is known: at the latest with the `following` one."""
    if seen is None:
        return held.at
    known = seen.ended.get(held.at.isoformat())
    if known is None and seen.generation == held.generation:
        known = seen.at
    if known is None or known < held.at:
        return held.at
    return known if following is None else min(known, max(held.at, following))
