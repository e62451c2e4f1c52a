"""What people should hear of one cluster, after a look at it, as events: troubles there are, and what just happened.

Pure and level-triggered: the same look gives the same events, and whoever tells them knows by their keys which were
told. A trouble that is not there is offered as resolved.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from stackyard.leasing.deciding import Decision, said
from stackyard.leasing.facts import Facts
from stackyard.monitoring.alerts import Event

LATE = 2.0
"""How many times `save.every` may pass without a save."""


def events(
    facts: Facts,
    decision: Decision,
    *,
    failed: str | None,
    store_away: str | None,
    held: str | None,
    safe: dt.datetime | None,
    real: dt.datetime,
) -> list[Event]:
    """Everything worth telling. `failed`: what could not be done; `held`: why the clock is not believed; `safe`: up to
    when all is saved, by the machine's clock, which says `real`."""
    return [
        *_warnings(facts),
        *_suspension(facts),
        _trouble(facts, "failed", "could not be ended or started", failed, "it is tried again at the next look", real),
        _trouble(facts, "clock", "is not ended by a clock that may be wrong", held, "nothing is ended by it", real),
        _trouble(facts, "folder", "cannot be watched over", _unread(facts, decision), "nothing of it is ended", real),
        _trouble(
            facts,
            "store",
            "has no store that takes its work",
            store_away,
            "it is tried again; the workspace is kept",
            real,
        ),
        _trouble(
            facts, "late", "is not saved as often as promised", _late(facts, safe, real), "the saver goes on", real
        ),
    ]


def failure(cluster: str, reason: str, real: dt.datetime) -> Event:
    """That a look at a cluster came to nothing."""
    what = "could not be ended or started"
    return _trouble(Facts(cluster), "failed", what, reason, "it is tried again at the next look", real)


def late(facts: Facts, safe: dt.datetime | None, real: dt.datetime) -> bool:
    """Whether nothing was saved for more than twice `save.every` of what runs, since it runs."""
    if facts.lease is None or not facts.running or facts.suspended is not None or facts.sealed:
        return False
    started = [facts.opened, facts.resumed, *(each.at for each in facts.usage if each.what == "opened")]
    known = [safe] if facts.lease.clock is not None else [safe, *started]  # a virtual clock dates what was started
    since = max((at for at in known if at is not None), default=real)
    return (real - since).total_seconds() > LATE * facts.lease.every


def _warnings(facts: Facts) -> Iterator[Event]:
    for told in facts.told:
        if told.silent:
            continue
        extend = "`stackyard lease extend` gives it more time" if _may_extend(facts) else "a later end is written there"
        yield Event(
            key=f"lease:{facts.cluster}:warning:{told.before:g}:{told.end.isoformat()}",
            owner="platform",
            what=f"leased cluster {facts.cluster} ends {said(told.end)}",
            since=told.at.isoformat(),
            state="moment",
            topic="lease",
            cause=told.because,
            done="it is saved all the time, and suspended then: its workspace stays until it is destroyed",
            todo=f"nothing, or prolong it: the stack's file says until when it is lent, {extend}",
            facts={"cluster": facts.cluster, "ends": told.end.isoformat(), "before": told.before},
        )


def _suspension(facts: Facts) -> Iterator[Event]:
    found = facts.suspended
    if found is None or found.reason == "hours":
        return
    kept = (
        "everything of it is saved" if found.whole else "NOT everything of it is saved: its workspace is the only copy"
    )
    yield Event(
        key=f"lease:{facts.cluster}:suspended:{found.whole}",
        owner="platform",
        what=f"leased cluster {facts.cluster} was suspended",
        since=found.at.isoformat(),
        state="moment",
        topic="lease",
        cause=found.because,
        done=f"its processes were ended, its workspace is kept; {kept}",
        todo=_todo(facts, found.reason),
        facts={"cluster": facts.cluster, "reason": found.reason, "whole": found.whole, "saved": found.saved},
    )


def _todo(facts: Facts, reason: str) -> str:
    if reason in ("idle", "asked", "orphan"):
        return f"`stackyard lease resume {facts.cluster}` starts it again"
    extend = "`stackyard lease extend`, or " if _may_extend(facts) and reason != "budget" else ""
    return f"to go on: {extend}a change of the stack's file and `up`; else destroy it, which gives a receipt"


def _trouble(facts: Facts, word: str, what: str, cause: str | None, done: str, real: dt.datetime) -> Event:
    return Event(
        key=f"lease:{facts.cluster}:{word}",
        owner="platform",
        what=f"leased cluster {facts.cluster} {what}",
        since=real.isoformat(timespec="seconds"),
        state="resolved" if cause is None else "open",
        topic="lease",
        cause=cause or "",
        done="" if cause is None else done,
        todo="" if cause is None else "see `stackyard lease`",
    )


def _late(facts: Facts, safe: dt.datetime | None, real: dt.datetime) -> str | None:
    if not late(facts, safe, real):
        return None
    return "nothing of it was ever saved" if safe is None else f"the newest save began {said(safe)}"


def _unread(facts: Facts, decision: Decision) -> str | None:
    if facts.foreign is not None:
        return f"it is not this stack's: {facts.foreign}"
    return "; ".join(facts.notes) or (decision.because if decision.held and not facts.holds else None)


def _may_extend(facts: Facts) -> bool:
    return facts.lease is not None and facts.lease.terms.extend is not None
