"""What each verb of the command line does; each returns plain data with `ok`, and its exit code.

Codes: 0 done, 1 something failed and is listed, 2 the call makes no sense, 4 somebody else is at it, 5 the lease does
not allow it.
"""

from __future__ import annotations

import datetime as dt
import getpass
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from stackyard.leasing import audits, failpoints, looking, money, news, reaping
from stackyard.leasing.acting import Actor, Children
from stackyard.leasing.deciding import decide, ends
from stackyard.leasing.facts import BY_PEOPLE, Extension, Facts, Reason, plain
from stackyard.leasing.folder import Busy, Folder
from stackyard.spec.units import duration_text

DONE, FAILED, USAGE, BUSY, REFUSED = 0, 1, 2, 4, 5
AGAIN = 60.0
"""Seconds in which the same extension asked for again is the same one."""
Answer = tuple[int, dict[str, Any]]


def reap(
    paths: list[Path], *, clock: Path | None = None, stack_id: str | None = None, children: Children | None = None
) -> Answer:
    """One look at each cluster."""
    outcome = reaping.reap(paths, clock=clock, stack_id=stack_id, children=children)
    found = [each["outcome"] for each in outcome["clusters"]]
    if "failed" in found:
        return FAILED, outcome
    return (BUSY if found and set(found) == {"busy"} else DONE), outcome


def status(path: Path, *, clock: Path | None = None) -> Answer:
    """What is known of it, what is decided, what it cost, how it is used. Changes nothing."""
    folder = Folder(path)
    if not folder.path.is_dir():
        return _no(REFUSED, _missing(folder))
    seen = looking.glance(folder, clock=clock)
    facts, decision, now = seen.facts, seen.decision, seen.moment.now
    nearest = decision.ends
    told: dict[str, Any] = {
        "ok": not facts.notes and facts.foreign is None,
        "cluster": folder.cluster,
        "owner": None if facts.lease is None else facts.lease.owner,
        "at": now.isoformat(),
        "state": reaping.state_of(facts),
        "opened": None if facts.opened is None else facts.opened.isoformat(),
        "ends": None if nearest is None else nearest.at.isoformat(),
        "ends_by": None if nearest is None else nearest.reason,
        "left": None if nearest is None else (nearest.at - now).total_seconds(),
        "all_ends": {each.reason: each.at.isoformat() for each in ends(facts, now)},
        "decision": {"wants": decision.wants, "because": decision.because, "held": decision.held},
        "suspended": None if facts.suspended is None else plain(facts.suspended),
        "extensions": [plain(each) for each in facts.extensions],
        "may_extend": _no_extension(facts, None) is None,
        "money": _bill(facts, now),
        "idle": _idle(folder, facts),
        "warnings": [plain(each) for each in facts.told],
        "safe_until": None if seen.safe is None else seen.safe.isoformat(),
        "late": news.late(facts, seen.safe, seen.moment.real),
        "troubles": [*facts.notes, *facts.holds],
    }
    return (DONE if told["ok"] else FAILED), told


def extend(path: Path, seconds: float, by: str, because: str, *, clock: Path | None = None) -> Answer:
    """Have it end later, as far as its lease allows without a change of the stack's file."""
    folder = Folder(path)
    if not math.isfinite(seconds) or seconds <= 0:
        return _no(USAGE, "an extension is longer than nothing")
    return _locked(folder, lambda: _extend(folder, seconds, by, because, clock))


def resume(
    path: Path, by: str | None = None, because: str = "a person asked for it", *, clock: Path | None = None
) -> Answer:
    """Start a suspended one again, if its lease is not over. One that runs is only said to be in use."""
    folder = Folder(path)
    return _locked(folder, lambda: _resume(folder, by or getpass.getuser(), because, clock))


def suspend(path: Path, because: str, reason: Reason, *, clock: Path | None = None) -> Answer:
    """Save it and end its processes; only a person starts it again."""
    folder = Folder(path)
    return _locked(folder, lambda: _suspend(folder, because, reason, clock))


def _extend(folder: Folder, seconds: float, by: str, because: str, clock: Path | None) -> Answer:
    seen = looking.glance(folder, clock=clock)
    facts, now = seen.facts, seen.moment.now
    acts = reaping.actor(folder, seen)
    why = _unfit(replace(facts, sealed=False), acts) or ("; ".join(facts.notes) or None)  # `up` may open a sealed one
    if why is not None or acts is None:
        return _no(REFUSED, why or "too little is known of it")
    last = facts.extensions[-1] if facts.extensions else None
    same = last is not None and (last.by, last.seconds, last.because) == (by, seconds, because)
    if not (same and last is not None and abs((now - last.at).total_seconds()) < AGAIN):
        if (why := _no_extension(facts, seconds)) is not None:
            return _no(REFUSED, why)
        last = Extension(at=now, by=by, seconds=seconds, because=because)
        every = [plain(each) for each in (*facts.extensions, last)]
        folder.write("extensions.json", {"version": 1, "instance": acts.instance.instance, "extensions": every})
        failpoints.hit("extension-noted")
    assert last is not None
    noted = {"seconds": seconds, "instance": acts.instance.instance, "generation": acts.instance.generation}
    audits.keep(folder, acts.instance, what="extended", who=by, at=last.at, why=because, facts=noted, event="extended")
    audits.deliver(folder, acts.instance, acts.settings)
    return DONE, {**status(folder.path, clock=clock)[1], "ok": True, "extended": plain(last)}


def _no_extension(facts: Facts, seconds: float | None) -> str | None:
    """Why it may not be extended (by so much), or None."""
    if facts.lease is None or facts.opened is None:
        return "it was never opened, or its lease cannot be read"
    allowed = facts.lease.terms.extend
    if allowed is None:
        return "its lease allows no extension: write a later end or a longer ttl into the stack's file, and `up`"
    if len(facts.extensions) >= allowed.times:
        times = "once" if allowed.times == 1 else f"{allowed.times} times"
        return f"it was extended {times} already, and may not be more often: write a later end into the stack's file"
    if seconds is not None and seconds > allowed.by:
        return f"it may be extended by {duration_text(allowed.by)} at a time, not by {duration_text(seconds)}"
    return None


def _resume(folder: Folder, by: str, because: str, clock: Path | None) -> Answer:
    seen = looking.glance(folder, clock=clock)
    acts = reaping.actor(folder, seen)
    if (why := _unfit(seen.facts, acts)) is not None or acts is None:
        return _no(REFUSED, why or "too little is known of it")
    free = decide(_wanted(seen.facts), seen.moment.now)
    if free.wants != "running":
        return _no(REFUSED, f"it cannot be resumed: {free.because}")
    if seen.facts.suspended is None and seen.facts.running and folder.intent() is None:
        acts.used(seen.moment.now, by)
        return _done(folder, None, [], clock)
    acted = acts.resume(because, seen.moment.now, by)
    audits.deliver(folder, acts.instance, acts.settings)
    return _done(folder, acted.failed, acted.did, clock)


def _wanted(facts: Facts) -> Facts:
    """As if a person had just resumed it, who believes the clock."""
    return replace(facts, suspended=None, signals=(), holds=())


def _suspend(folder: Folder, because: str, reason: Reason, clock: Path | None) -> Answer:
    seen = looking.glance(folder, clock=clock)
    facts, acts = seen.facts, reaping.actor(folder, seen)
    if (why := _unfit(facts, acts)) is not None or acts is None:
        return _no(REFUSED, why or "too little is known of it")
    before, now = facts.suspended, seen.moment.now
    if before is not None and before.reason not in BY_PEOPLE:  # else its hours would start it again
        before = before.model_copy(update={"reason": reason, "because": because, "at": now})
    elif before is not None and not facts.running and folder.intent() is None:
        return _done(folder, None, [], clock)
    acted = acts.suspend(reason, because, now, before)
    audits.deliver(folder, acts.instance, acts.settings)
    return _done(folder, acted.failed, acted.did, clock)


def _unfit(facts: Facts, acts: Actor | None) -> str | None:
    """Why nobody may do anything to it."""
    if facts.foreign is not None:
        return f"it is not this stack's: {facts.foreign}"
    if facts.sealed:
        return "it is sealed: a receipt lets it go, and `up` opens it again"
    if acts is None:
        return f"it is not there, or cannot be read: {'; '.join(facts.notes)}"
    return "it was never opened" if facts.opened is None else None


def _done(folder: Folder, failed: str | None, did: list[str], clock: Path | None) -> Answer:
    told = status(folder.path, clock=clock)[1]
    return (DONE if failed is None else FAILED), {**told, "ok": failed is None, "did": did, "reason": failed}


def _locked(folder: Folder, act: Callable[[], Answer]) -> Answer:
    if not folder.path.is_dir():
        return _no(REFUSED, _missing(folder))
    try:
        with folder.locked():
            return act()
    except Busy:
        return _no(BUSY, "somebody else is at it just now: try again in a minute")
    except OSError as error:
        return _no(FAILED, str(error))


def _missing(folder: Folder) -> str:
    return f"there is no leased cluster {folder.cluster}: {folder.path} is not there"


def _no(code: int, reason: str) -> Answer:
    return code, {"ok": False, "reason": reason}


def _bill(facts: Facts, now: dt.datetime) -> dict[str, Any]:
    found = money.spans(facts.usage, facts.seen, running=facts.running)
    bill = money.bill(found, now)
    limit = None if facts.lease is None else facts.lease.budget.money
    return {
        "hours": bill.hours,
        "cpu_hours": bill.cpu_hours,
        "gpu_hours": bill.gpu_hours,
        "cost": bill.cost,
        "limit": limit,
        "left": None if limit is None else limit - bill.cost,
    }


def _idle(folder: Folder, facts: Facts) -> dict[str, Any]:
    kept = folder.idle()
    return {
        "after": None if facts.lease is None else facts.lease.terms.idle,
        "looked": kept.get("at"),
        "resumed": None if facts.resumed is None else facts.resumed.isoformat(),
        "signals": [plain(each) for each in facts.signals],
    }
