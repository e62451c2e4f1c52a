"""What the loop did in a replay: runs, gates, stages, promotions and rollbacks with their reasons, from the records."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any

from stackyard.control.journal import Journal
from stackyard.replay.yard import Yard
from stackyard.store import layout, releases
from stackyard.store.releases import Release

FIRST = "first model"
"""What happened before anything is replayed."""


@dataclass(frozen=True)
class Event:
    """Something that the loop did. `lane` is where the time line shows it."""

    at: dt.datetime
    lane: str
    what: str
    reason: str
    run: int | None = None


@dataclass(frozen=True)
class Story:
    """Everything that happened, in order."""

    events: tuple[Event, ...]
    spans: tuple[tuple[dt.datetime, dt.datetime | None, str], ...]
    """Rollout stages: from, to, `shadow`, `canary` or `watch`."""
    champions: tuple[tuple[dt.datetime, str], ...]
    """Since when which bundle answered."""
    retrains: int
    promotions: int
    rollbacks: int
    refused: int
    """Candidates that did not pass their gates."""
    stopped: int
    """Candidates that a stage gave up."""
    cpu_hours: float


def read(yard: Yard) -> Story:
    """The story of the model of `yard`, from its first run on."""
    journal = Journal(yard.database)
    try:
        runs = list(journal.runs(yard.model))
    finally:
        journal.close()
    chain = releases.history(yard.store, yard.model, yard.trusted)
    numbers = {run.run_id: run.number for run in runs}
    events: list[Event] = []
    refused, hours = 0, 0.0
    for run in runs:
        at = _time(run.created)
        if run.number > 1:
            events.append(Event(at, "retrain", f"run {run.number}", run.reason, run.number))
        hours += float((_document(yard, layout.run(run.run_id, "result.json")) or {}).get("cpu_hours") or 0.0)
        gate = _document(yard, layout.gate(yard.model, run.run_id))
        if gate is not None:
            refused += not gate.get("passed")
            events.append(Event(_gated(gate, at), "gate", _verdict(gate), _failed(gate), run.number))
    events += [_release(each, numbers) for each in chain]
    outcomes = [each.outcome for each in chain]
    return Story(
        events=tuple(sorted(events, key=lambda event: event.at)),
        spans=tuple(_spans(chain)),
        champions=tuple(_champions(chain)),
        retrains=sum(run.number > 1 for run in runs),
        promotions=outcomes.count("promoted"),
        rollbacks=outcomes.count("rolled_back"),
        refused=refused,
        stopped=outcomes.count("stopped") + outcomes.count("expired"),
        cpu_hours=hours,
    )


_LANES = {"promoted": "promotion", "rolled_back": "rollback", "stopped": "stop", "expired": "stop"}


def _release(release: Release, numbers: dict[str, int]) -> Event:
    lane = _LANES.get(release.outcome or "", "stage")
    what = {"promotion": "promoted", "rollback": "rolled back", "stop": "given up"}.get(lane, release.stage)
    if lane == "stage" and release.arms:
        what = f"{release.stage} {100 * release.arms[0].share:g} %"
    if release.number == 1:
        lane, what = "promotion", FIRST
    return Event(_time(release.created), lane, what, release.reason, numbers.get(release.candidate or ""))


def _spans(chain: list[Release]) -> list[tuple[dt.datetime, dt.datetime | None, str]]:
    ends = [*(_time(each.created) for each in chain[1:]), None]
    return [
        (_time(each.created), end, each.stage) for each, end in zip(chain, ends, strict=True) if each.stage != "live"
    ]


def _champions(chain: list[Release]) -> list[tuple[dt.datetime, str]]:
    found: list[tuple[dt.datetime, str]] = []
    for each in chain:
        if not found or found[-1][1] != each.champion:
            found.append((_time(each.created), each.champion))
    return found


def _verdict(gate: dict[str, Any]) -> str:
    return "passed" if gate.get("passed") else "refused"


def _failed(gate: dict[str, Any]) -> str:
    missing = [check for check in gate.get("checks", []) if check.get("passed") is False]
    return "; ".join(f"{check.get('name')}: {check.get('reason')}" for check in missing) or "every check passed"


def _gated(gate: dict[str, Any], otherwise: dt.datetime) -> dt.datetime:
    text = gate.get("created") or gate.get("at")
    return otherwise if text is None else _time(text)


def _document(yard: Yard, key: str) -> dict[str, Any] | None:
    try:
        found = json.loads(yard.store.read(key))
    except (KeyError, ValueError):
        return None
    body = found.get("body", found)
    return body if isinstance(body, dict) else None


def _time(text: str) -> dt.datetime:
    found = dt.datetime.fromisoformat(text)
    return found.astimezone(dt.UTC) if found.tzinfo else found.replace(tzinfo=dt.UTC)
