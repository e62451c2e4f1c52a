"""Whether a leased cluster should run or be suspended now, why, and who has to be warned: a function of facts and time.

A lease that is over is over until it says otherwise; nobody is ended while anything of that is in doubt. What is not
ours, what is sealed and what was never opened is left alone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from stackyard.leasing import hours, money
from stackyard.leasing.facts import BY_PEOPLE, Facts, Lease, Reason
from stackyard.spec.units import duration_text

ENDS: tuple[Reason, ...] = ("end", "ttl", "budget")
"""What ends it for good, of which its owner is warned."""


@dataclass(frozen=True)
class Over:
    """That it has to be suspended."""

    reason: Reason
    since: dt.datetime
    """From when; for as long as the lease's grace after it, nothing is ended that is not saved."""
    because: str


@dataclass(frozen=True)
class End:
    """An end that lies ahead, or behind."""

    reason: Reason
    at: dt.datetime


@dataclass(frozen=True)
class Warn:
    """That its owner has to be told of the end."""

    before: float
    """Seconds."""
    end: End
    because: str
    passed: tuple[float, ...] = ()
    """Earlier warnings that were due as well and are passed over."""


@dataclass(frozen=True)
class Decision:
    """What should be."""

    wants: Literal["running", "suspended", "left"]
    """`left`: nobody touches it."""
    because: str
    over: Over | None = None
    """Where the clock or the use asks for suspension."""
    ends: End | None = None
    """The earliest of the ends of the lease."""
    warning: Warn | None = None
    held: bool = False
    """Whether it stays as it is only since something is in doubt."""

    def grace_over(self, lease: Lease, now: dt.datetime) -> bool:
        """Whether it is suspended now even if not everything could be saved."""
        left = self.grace_left(lease, now)
        return left is not None and left <= 0

    def grace_left(self, lease: Lease, now: dt.datetime) -> float | None:
        """Seconds until then; None where it never comes."""
        until = None if self.over is None else _later(self.over.since, lease.terms.grace)
        return None if until is None else (until - now).total_seconds()


def decide(facts: Facts, now: dt.datetime) -> Decision:
    """What should be of the cluster at `now` (with a time zone). Never raises."""
    lease, opened = facts.lease, facts.opened
    if facts.foreign is not None:
        return Decision("left", f"it is not this stack's: {facts.foreign}")
    if lease is None or facts.instance is None:
        return Decision("left", "its lease or its instance cannot be read, so nothing of it is ended", held=True)
    if facts.sealed or facts.instance.sealed:
        return Decision("left", "it is sealed: nothing of it runs, and `up` opens it again")
    if opened is None:
        return Decision("left", "it was never opened")
    found = sorted(ends(facts, now), key=lambda end: end.at)
    nearest = found[0] if found else None
    if facts.holds:
        wants = "running" if facts.suspended is None else "suspended"
        return Decision(wants, "; ".join(facts.holds), ends=nearest, held=True)
    over = next(_over(facts, lease, opened, found, now), None)
    if over is not None:
        return Decision("suspended", over.because, over, nearest)
    warning = None if nearest is None else _warning(facts, lease, opened, nearest, now)
    if facts.suspended is not None and facts.suspended.reason in BY_PEOPLE:
        because = f"{facts.suspended.because}; `stackyard lease resume` starts it again"
        return Decision("suspended", because, None, nearest, warning)
    return Decision("running", _lent(nearest), None, nearest, warning)


def ends(facts: Facts, now: dt.datetime) -> Iterator[End]:
    """Every end that the lease has: by its date, by its time to live, by its budget at the price that runs now."""
    lease, opened = facts.lease, facts.opened
    if lease is None or opened is None:
        return
    more = sum(each.seconds for each in facts.extensions)
    if (at := _later(last_day(lease), more)) is not None:
        yield End("end", at)
    if (at := _later(_later(opened, lease.terms.ttl), more)) is not None:
        yield End("ttl", at)
    if (at := _spent(facts, lease, now)) is not None:
        yield End("budget", at)


def last_day(lease: Lease) -> dt.datetime | None:
    """The moment (UTC) after the lease's last day, or None where it has none."""
    day = lease.terms.end
    if day is None or day == dt.date.max:
        return None
    return dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), dt.UTC)


def said(at: dt.datetime) -> str:
    """A moment for people."""
    return f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"


def _over(facts: Facts, lease: Lease, opened: dt.datetime, found: list[End], now: dt.datetime) -> Iterator[Over]:
    """Why it has to be suspended, the most lasting reason first."""
    tell: dict[str, Callable[[], str]] = {
        "end": lambda: f"its last day was {lease.terms.end}{_extended(facts)}",
        "ttl": lambda: f"it was opened {said(opened)} and lent for {duration_text(lease.terms.ttl)}{_extended(facts)}",
        "budget": lambda: f"it has cost the {lease.budget.money:g} that it may cost",
    }
    for reason in ENDS:
        yield from (Over(reason, end.at, tell[reason]()) for end in found if end.reason == reason and end.at <= now)
    terms = lease.terms
    if terms.hours is not None and not hours.within(terms.hours, now):
        since = max(hours.ended(terms.hours, now) or opened, min(_started(facts, opened), now))
        again = hours.begins(terms.hours, now)
        because = f"it runs {terms.hours.span} ({', '.join(terms.hours.days)}; {terms.hours.timezone})"
        yield Over("hours", since, because + ("" if again is None else f", again from {said(again)}"))
    if terms.idle is not None and (since := _idle(facts, opened, terms.idle, now)) is not None:
        ago = duration_text(terms.idle)
        yield Over("idle", since, f"nobody has used it for {ago}: {'; '.join(s.because for s in facts.signals)}")


def _spent(facts: Facts, lease: Lease, now: dt.datetime) -> dt.datetime | None:
    if lease.budget.money is None:
        return None
    ran = money.spans(facts.usage, facts.seen, running=facts.running)
    at = money.reaches(ran, lease.budget.money)
    if at is not None and at <= now and money.bill(ran, now).cost < lease.budget.money:
        return now + dt.timedelta(microseconds=1) if now < _LAST else None  # rounded to before it is true
    return at


def _idle(facts: Facts, opened: dt.datetime, idle: float, now: dt.datetime) -> dt.datetime | None:
    """Since when it counts as idle; None while it does not, or while anybody could use it unseen."""
    if not facts.running or not facts.signals or any(s.busy or not s.known for s in facts.signals):
        return None
    uses = [s.used for s in facts.signals if s.used is not None]
    last = max([_started(facts, opened), *uses])
    since = _later(last, idle)
    return since if since is not None and since <= now else None


def _started(facts: Facts, opened: dt.datetime) -> dt.datetime:
    """When it was started last, by a person or by its hours."""
    known = [each.at for each in facts.usage if each.what == "opened"]
    return max([opened, *known, *([] if facts.resumed is None else [facts.resumed])])


def _warning(facts: Facts, lease: Lease, opened: dt.datetime, end: End, now: dt.datetime) -> Warn | None:
    """The most urgent warning that is due and was not told; those that were due with it are passed over."""
    lent = (end.at - opened).total_seconds()
    left = (end.at - now).total_seconds()
    due = [
        before for before in sorted(set(lease.terms.warn)) if left <= before < lent and not _told(facts, before, end)
    ]
    if not due or left <= 0 or any(_told(facts, before, end) for before in lease.terms.warn if before < due[0]):
        return None
    before = due[0]
    because = f"it ends {said(end.at)}, {_why(end.reason, lease)}"
    return Warn(before, end, because, tuple(due[1:]))


def _told(facts: Facts, before: float, end: End) -> bool:
    """Whether that was told of this end, or of one that was not earlier: an extended lease is warned of anew."""
    for told in facts.told:
        same = told.before == before and (told.reason == "budget") == (end.reason == "budget")
        if same and (end.reason == "budget" or end.at <= told.end):
            return True
    return False


def _why(reason: Reason, lease: Lease) -> str:
    if reason == "end":
        return f"after its last day ({lease.terms.end})"
    if reason == "ttl":
        return f"when {duration_text(lease.terms.ttl)} are over"
    return f"when it has cost {lease.budget.money:g}"


def _lent(nearest: End | None) -> str:
    return (
        "it is lent without an end that could be named" if nearest is None else f"it is lent until {said(nearest.at)}"
    )


def _extended(facts: Facts) -> str:
    more = sum(each.seconds for each in facts.extensions)
    return f", extended by {duration_text(more)}" if more else ""


_LAST = dt.datetime.max.replace(tzinfo=dt.UTC) - dt.timedelta(days=1)


def _later(at: dt.datetime | None, seconds: float) -> dt.datetime | None:
    """`at` and so many seconds; None beyond the end of the calendar."""
    try:
        return None if at is None else at + dt.timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        return None
