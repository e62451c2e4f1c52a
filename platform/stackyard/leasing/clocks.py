"""Whether the machine's clock may be believed when it says that a lease is over.

Wall time is held against the time since boot, which nobody sets and which goes on while a machine sleeps. A wall clock
that ran ahead or back by more than NTP ever corrects in that time was set, rightly or wrongly: nothing is ended, and
nothing resumed, until it has stood for an hour; if it goes back meanwhile, all is as before. After a reboot nothing can
be compared, the machine may rightly have been off for weeks. What is wrong then is a clock without a battery, which NTP
corrects within minutes, as a jump: so a quarter of an hour is waited, in which such a jump would show and cost its own
hour. If the clock is earlier than before the reboot, one of the two is wrong, and the hour is waited at once.
"""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, ConfigDict

TOLERANCE = 300.0
"""Seconds that wall time and time since boot may part within one anchor's life."""
ANCHORED = 6 * 3600.0
"""Seconds after which a trusted anchor is set anew: NTP slews by 500 ppm at the most, 11 s in this time. A clock that
is set in many small steps shows, too."""
SETTLED, AFTER_BOOT = 3600.0, 900.0
"""Seconds of uptime that a clock which was set, or came with a boot, has to stand."""


class Look(BaseModel):
    """What the clocks said at one moment."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    wall: AwareDatetime
    uptime: float
    """CLOCK_BOOTTIME, seconds."""
    boot: str
    """The kernel's id of this boot."""


class Trust(BaseModel):
    """What is kept between two looks (`clock.json`)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    anchor: Look
    """The newest time that was believed; while one is waited for, the one before it was set."""
    last: Look
    until: float | None = None
    """Uptime until which nothing is ended; None: the clock is believed."""
    why: str = ""


def judge(before: Trust | None, look: Look, *, lost: bool = False) -> Trust:
    """The trust after `look`. `lost`: what was kept cannot be read, so nothing is known of the time before."""
    if before is None:
        nowhere = look.model_copy(update={"boot": ""})
        return _wait(nowhere, look, AFTER_BOOT, "what was noted of the clock is lost") if lost else _believed(look)
    if look.boot != before.last.boot:
        return _booted(before, look)
    parted = _ahead(before.anchor, look) if before.anchor.boot == look.boot else None
    if parted is not None and abs(parted) <= TOLERANCE:
        if look.uptime - before.anchor.uptime > ANCHORED or before.until is not None:
            return _believed(look)
        return Trust(anchor=before.anchor, last=look)
    if before.until is None:
        assert parted is not None  # believed means anchored in this boot
        return _wait(before.anchor, look, SETTLED, _set(parted))
    step = _ahead(before.last, look)
    if abs(step) > TOLERANCE:
        return _wait(before.anchor, look, SETTLED, _set(step))
    if look.uptime >= before.until:
        return _believed(look)
    return before.model_copy(update={"last": look})


def held(trust: Trust) -> str | None:
    """Why nothing may be ended by this clock now; None when it may."""
    if trust.until is None:
        return None
    left = max(0.0, trust.until - trust.last.uptime) / 60
    return f"{trust.why}: nothing is ended or resumed by it for another {left:.0f} min"


def _booted(before: Trust, look: Look) -> Trust:
    # The anchor stays of another boot, with which no time of this one is compared.
    if look.wall < before.last.wall:
        why = "the clock is earlier than it was before the machine started again"
        return _wait(before.anchor, look, SETTLED, why)
    if before.until is not None:
        return _wait(before.anchor, look, SETTLED, f"{before.why}, and the machine has started again since")
    why = "the machine has started again, and its clock may not be set yet"
    return _wait(before.anchor, look, AFTER_BOOT, why)


def _wait(anchor: Look, look: Look, seconds: float, why: str) -> Trust:
    return Trust(anchor=anchor, last=look, until=look.uptime + seconds, why=why)


def _believed(look: Look) -> Trust:
    return Trust(anchor=look, last=look)


def _ahead(before: Look, look: Look) -> float:
    """Seconds by which wall time ran ahead of the time since boot."""
    return (look.wall - before.wall).total_seconds() - (look.uptime - before.uptime)


def _set(parted: float) -> str:
    minutes = abs(parted) / 60
    size = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
    return f"the machine's clock was set {'ahead' if parted > 0 else 'back'} by {size}"
