"""One look at a cluster: everything that a decision is made from, and what the next look has to know of this one."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stackyard.clock import FileClock
from stackyard.evacuation.freezing import Freezer
from stackyard.evacuation.settings import SaverSettings
from stackyard.leasing import clocks, processes, signals
from stackyard.leasing.clocks import Look, Trust
from stackyard.leasing.deciding import Decision, decide
from stackyard.leasing.facts import Facts, Lease
from stackyard.leasing.folder import Folder
from stackyard.leasing.money import spans


@dataclass(frozen=True)
class Moment:
    """When somebody looks."""

    now: dt.datetime
    """By the stack's clock: decisions are made by it."""
    real: dt.datetime
    """By the machine's."""
    virtual: bool = False


@dataclass(frozen=True)
class Seen:
    """What a look found."""

    facts: Facts
    decision: Decision
    settings: SaverSettings | None
    moment: Moment
    held: str | None = None
    """Why the clock is not believed."""
    safe: dt.datetime | None = None
    """Up to when everything is in the store, by the machine's clock; None: nothing was ever saved."""


def glance(folder: Folder, *, clock: Path | None = None, stack_id: str | None = None) -> Seen:
    """Read what is there, and ask and write nothing: the signals are those of the last look."""
    return _seen(folder, clock, stack_id, ask=False)


def look(folder: Folder, *, clock: Path | None = None, stack_id: str | None = None) -> Seen:
    """Ask the signals, too, and note what was seen. Take the folder's lock around it. Raises OSError."""
    return _seen(folder, clock, stack_id, ask=True)


def _seen(folder: Folder, clock: Path | None, stack_id: str | None, *, ask: bool) -> Seen:
    lease, instance, settings = folder.lease(), folder.instance(), folder.settings()
    moment, holds = _moment(lease, clock)
    held = None
    if not moment.virtual:
        trust = _trust(folder, moment.real)
        held = clocks.held(trust)
        if ask:
            folder.note("clock.json", trust.model_dump(mode="json"))
    holds += [] if held is None else [held]
    extensions = folder.extensions(instance)
    if extensions is None:
        holds.append("its extensions cannot be read, and it may have been extended")
    if settings is None:
        holds.append("the settings of its evacuation cannot be read, so nothing of it can be saved")
    idle = folder.idle()
    facts = Facts(
        cluster=folder.cluster,
        lease=lease,
        instance=instance,
        sealed=folder.sealed(instance),
        foreign=folder.foreign(settings, stack_id),
        suspended=folder.suspended(instance),
        extensions=extensions or (),
        usage=folder.usage(),
        seen=folder.seen(),
        signals=folder.signals(),
        resumed=_resumed(idle, None if instance is None else instance.instance),
        running=settings is not None and bool(Freezer(settings).carriers()),
        told=folder.warnings(instance),
        holds=tuple(holds),
        notes=tuple(dict.fromkeys(folder.troubles)),
    )
    if ask and lease is not None and settings is not None and _open(facts):
        facts = _ask(folder, facts, lease, settings, idle, moment)
    safe = None if settings is None else saved_until(settings)
    return Seen(facts, decide(facts, moment.now), settings, moment, held, safe)


def saved_until(settings: SaverSettings) -> dt.datetime | None:
    """When the newest save that found or left nothing unsaved began, of the saver's memory; None: not known."""
    place = settings.state / "cache.db"
    try:
        with contextlib.closing(sqlite3.connect(f"file:{place}?mode=ro", uri=True, timeout=1.0)) as memory:
            row = memory.execute("select value from meta where name = 'checked'").fetchone()
        return None if row is None else dt.datetime.fromisoformat(json.loads(row[0])[1])
    except (sqlite3.Error, ValueError, TypeError, LookupError):
        return None


def _open(facts: Facts) -> bool:
    """Whether it is one whose use matters."""
    return facts.foreign is None and not facts.sealed and facts.opened is not None


def _ask(
    folder: Folder, facts: Facts, lease: Lease, settings: SaverSettings, idle: dict[str, Any], moment: Moment
) -> Facts:
    if facts.suspended is None or facts.running:
        found = processes.mine(settings, folder.commands())
        kept = signals.look(lease, found, running=facts.running, before=idle, now=moment.now, real=moment.real)
        folder.note("idle.json", kept)
    if facts.running and facts.instance is not None:
        ended = _unclosed(facts)
        seen = {"generation": facts.instance.generation, "at": moment.now.isoformat(), "ended": ended}
        folder.note("seen.json", seen)
    return replace(facts, signals=folder.signals(), seen=folder.seen(), notes=tuple(dict.fromkeys(folder.troubles)))


def _unclosed(facts: Facts) -> dict[str, str]:
    """When openings that nobody closed ended, kept before this look's time takes the place of what tells it."""
    known = {} if facts.seen is None else {at: ended.isoformat() for at, ended in facts.seen.ended.items()}
    found = spans(facts.usage, facts.seen, running=facts.running)
    closed = {each.at for each in facts.usage if each.what == "closed"}
    for each in found[:-1]:
        if each.ended is not None and each.ended not in closed:
            known.setdefault(each.began.isoformat(), each.ended.isoformat())
    return known


def _moment(lease: Lease | None, clock: Path | None) -> tuple[Moment, list[str]]:
    real = dt.datetime.now(dt.UTC)
    file = clock or (Path(lease.clock) if lease is not None and lease.clock else None)
    if file is None:
        return Moment(real, real), []
    try:
        return Moment(FileClock(file).now(), real, virtual=True), []
    except (OSError, ValueError) as error:
        return Moment(real, real, virtual=True), [f"the stack's clock {file} cannot be read ({error})"]


def _trust(folder: Folder, real: dt.datetime) -> Trust:
    place, before, lost = folder.path / "clock.json", None, False
    if place.exists():
        try:
            before = Trust.model_validate_json(place.read_bytes())
        except (OSError, ValueError):
            lost = True
    boot, uptime = processes.uptime()
    return clocks.judge(before, Look(wall=real, uptime=uptime, boot=boot), lost=lost)


def _resumed(idle: dict[str, Any], instance: str | None) -> dt.datetime | None:
    noted = idle.get("resumed")
    if not isinstance(noted, dict) or noted.get("instance") != instance:
        return None
    try:
        found = dt.datetime.fromisoformat(str(noted.get("at")))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
