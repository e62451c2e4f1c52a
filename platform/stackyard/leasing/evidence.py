"""What one signal says at one look, and what is known of its use after it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from stackyard.leasing.facts import Signal


@dataclass(frozen=True)
class Evidence:
    """What one signal says now."""

    name: str
    because: str
    known: bool = True
    busy: bool = False
    last: dt.datetime | None = None
    """The newest use that is over, by the machine's clock."""


def fold(
    before: Signal | None, found: Evidence, now: dt.datetime, *, looked: dt.datetime | None, virtual: bool
) -> Signal:
    """The signal after a look at `now`, the stack's time; `looked` is the machine's at the look before.

    Where the stack's clock is a `virtual` one, use that the machine's clock tells of is dated by the look that first
    heard of it. Use is never dated later than now, and never taken back.
    """
    known = None if before is None else before.used
    fresh = None
    if found.busy:
        fresh = now
    elif found.last is not None:
        fresh = found.last if not virtual else now if looked is None or found.last > looked else None
    used = max((min(each, now) for each in (known, fresh) if each is not None), default=None)
    return Signal(name=found.name, known=found.known, busy=found.busy, used=used, because=found.because)
