"""One look at each cluster with nobody there: what its lease asks for is done, or is why it was not.

Level-triggered: every look compares what should be with what is, and takes the next step. Two reapers are safe: each
cluster is locked, and who finds it locked says so and goes on with the others.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stackyard.leasing import audits, failpoints, looking, news
from stackyard.leasing.acting import LONGEST, Acted, Actor, Children
from stackyard.leasing.deciding import Decision, Warn
from stackyard.leasing.facts import Facts, Told, plain
from stackyard.leasing.folder import Busy, Folder
from stackyard.leasing.looking import Seen

AT_ONCE = 4
"""Clusters that are looked at side by side: a long save of one holds up no other's end."""


def reap(
    paths: Sequence[Path], *, clock: Path | None = None, stack_id: str | None = None, children: Children | None = None
) -> dict[str, Any]:
    """One look at each cluster folder. `outcome` of each is `ok`, `failed` or `busy`."""
    children = children or Children()
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        found = list(pool.map(lambda path: one(path, clock, stack_id, children), paths))
    failed = [each["cluster"] for each in found if each["outcome"] == "failed"]
    return {"ok": not failed, "failed": failed, "clusters": found}


def one(path: Path, clock: Path | None, stack_id: str | None, children: Children) -> dict[str, Any]:
    """One look at one cluster; whatever goes wrong is told."""
    folder = Folder(path)
    told: dict[str, Any] = {"cluster": folder.cluster, "folder": str(folder.path), "did": [], "failed": None}
    try:
        with folder.locked():
            return told | _one(folder, clock, stack_id, children)
    except Busy:
        return told | {"outcome": "busy", "failed": "another reaper is at it"}
    except Exception as error:  # noqa: BLE001  the other clusters are looked at all the same
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        event = news.failure(folder.cluster, reason, dt.datetime.now(dt.UTC))
        return told | {"outcome": "failed", "failed": reason, "events": [event.model_dump(mode="json")]}


def actor(folder: Folder, seen: Seen, children: Children | None = None) -> Actor | None:
    """Who may act on it; None where too little is known of it, or it is not ours."""
    facts = seen.facts
    if facts.lease is None or facts.instance is None or seen.settings is None or facts.foreign is not None:
        return None
    return Actor(folder, facts.lease, seen.settings, facts.instance, children or Children())


def _one(folder: Folder, clock: Path | None, stack_id: str | None, children: Children) -> dict[str, Any]:
    seen = looking.look(folder, clock=clock, stack_id=stack_id)
    failpoints.hit("look-noted")
    acts = actor(folder, seen, children)
    acted = Acted() if acts is None else _act(acts, seen)
    if acts is not None and seen.decision.warning is not None:
        _warn(acts, seen.decision.warning, seen.moment.now)
        failpoints.hit("warning-noted")
    audited = None
    if acts is not None:
        audited = audits.deliver(folder, acts.instance, acts.settings)
    after = looking.glance(folder, clock=clock, stack_id=stack_id)
    return told(after, acted, seen.decision, audited)


def told(seen: Seen, acted: Acted, decision: Decision, audited: str | None = None) -> dict[str, Any]:
    """What was found and done, as plain data; `seen` is how it is afterwards."""
    facts = seen.facts
    failed = acted.failed or _broken(facts)
    away = _store_away(seen, acted, audited)
    found = news.events(
        facts,
        decision,
        failed=acted.failed,
        store_away=away,
        held=seen.held,
        safe=seen.safe,
        real=seen.moment.real,
    )
    return {
        "outcome": "ok" if failed is None else "failed",
        "failed": failed,
        "did": acted.did,
        "state": state_of(facts),
        "wants": decision.wants,
        "because": decision.because,
        "owner": None if facts.lease is None else facts.lease.owner,
        "tell": [] if facts.lease is None else list(facts.lease.tell),
        "events": [each.model_dump(mode="json") for each in found],
    }


def state_of(facts: Facts) -> str:
    """One word for how it is."""
    if facts.sealed:
        return "sealed"
    if facts.suspended is not None:
        return "suspended" if not facts.running else "suspending"
    return "open" if facts.opened is not None else "new"


def _act(acts: Actor, seen: Seen) -> Acted:
    facts, decision, now = seen.facts, seen.decision, seen.moment.now
    intent = (acts.folder.intent() or {}).get("doing")
    if facts.suspended is None and (acts.folder.path / "suspended.json").exists() and not facts.sealed:
        acts.folder.remove("suspended.json")  # of an earlier opening: this one was opened on purpose
    match decision.wants:
        case "suspended":
            return _suspended(acts, seen, intent)
        case "running" if intent == "resume":
            return _resumed(acts, now)
        case "running" if facts.suspended is not None:
            return acts.resume(decision.because, now, "reaper")
        case "running" if intent == "suspend" or acts.forgotten():
            return acts.undo()
        case _:
            if facts.sealed:
                acts.folder.remove("reaping.json")
            return Acted()


def _suspended(acts: Actor, seen: Seen, intent: str | None) -> Acted:
    facts, decision, now, before = seen.facts, seen.decision, seen.moment.now, seen.facts.suspended
    if intent == "resume" and decision.over is None and not decision.held:
        return _resumed(acts, now)
    if before is not None:
        if facts.running or intent is not None or (not before.whole and _due(acts.folder, acts.lease.every)):
            return acts.suspend(before.reason, before.because, now, before)
        return acts.save(before) if before.whole and _due(acts.folder, acts.lease.every) else Acted()
    if decision.over is None:
        return Acted()
    unsaved, left = decision.grace_over(acts.lease, now), decision.grace_left(acts.lease, now)
    acts.within = None if left is None else max(LONGEST, left)
    return acts.suspend(decision.over.reason, decision.over.because, now, None, unsaved=unsaved)


def _due(folder: Folder, every: float) -> bool:
    """Whether what was not saved when it was suspended, or came since, is looked for: as often as a saver would."""
    age = dt.datetime.now(dt.UTC).timestamp() - (folder.path / "suspended.json").stat().st_mtime
    return not 0 <= age < every


def _resumed(acts: Actor, now: dt.datetime) -> Acted:
    """What somebody began, and was killed at."""
    began = acts.folder.intent() or {}
    return acts.resume(str(began.get("because") or "it was being resumed"), now, str(began.get("by") or "reaper"))


def _warn(acts: Actor, warning: Warn, now: dt.datetime) -> None:
    kept = acts.folder.told(acts.instance)
    for before in (warning.before, *warning.passed):
        note = Told(
            before=before,
            reason=warning.end.reason,
            end=warning.end.at,
            at=now,
            because=warning.because,
            silent=before != warning.before,
        )
        kept["warnings"].append(plain(note))
    acts.folder.write("told.json", {"version": 1, "instance": acts.instance.instance, **kept})


def _broken(facts: Facts) -> str | None:
    """Why nobody can watch over it."""
    if facts.foreign is not None:
        return f"it is not this stack's: {facts.foreign}"
    return "; ".join(facts.notes) or None


def _store_away(seen: Seen, acted: Acted, audited: str | None) -> str | None:
    place = None if seen.settings is None else seen.settings.local_store
    if place is not None and not os.path.isdir(place) and seen.safe is not None:
        return f"the store {place} is not there"
    if acted.store_away:
        return acted.failed or "the store is away"
    return audited
