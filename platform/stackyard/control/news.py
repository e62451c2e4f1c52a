"""What people should hear of: the troubles there are and what just happened, as events. Pure.

Level-triggered like everything else: the same world gives the same events again, and whoever tells them knows by
their keys which ones were told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stackyard.control.actions import Action, Ask, Propose, Publish
from stackyard.control.world import ReleaseSeen, World
from stackyard.monitoring.alerts import Event

RECENT = 20
"""Releases and runs of which news are told: what is older was told, or nobody was there to hear."""
_SAID = {
    "promoted": ("promotion", "was promoted", "nothing; `stackyard rollback` takes it back"),
    "stopped": ("rollback", "was stopped before it was promoted", "see `stackyard why`"),
    "expired": (
        "rollback",
        "was given up: no verdict by its deadline",
        "see `stackyard why`; is there enough traffic?",
    ),
    "rolled_back": ("rollback", "was taken back", "see `stackyard why`"),
}


def events(world: World, due: Sequence[Action], reasons: Mapping[int, str], now: str) -> list[Event]:
    """Everything worth telling of `world`; `reasons` are those of Releases, by number."""
    return [*_releases(world, reasons), *_runs(world), *_evidence(world, now), *_proposal(world, due, now)]


def _releases(world: World, reasons: Mapping[int, str]) -> Iterator[Event]:
    for release in world.chain[-RECENT:]:
        if release.outcome is None or release.candidate is None:
            continue
        topic, said, todo = _SAID[release.outcome]
        version = _version(world, release)
        yield Event(
            key=f"release:{release.number}",
            owner="model",
            what=f"version {version} of {world.model} {said}",
            since="" if release.created is None else release.created.isoformat(),
            state="moment",
            topic=topic,
            cause=reasons.get(release.number, ""),
            done=f"release {release.number} serves bundle {release.champion[:12]}",
            todo=todo,
            facts={"release": release.number, "champion": release.champion, "run_id": release.candidate},
        )


def _version(world: World, release: ReleaseSeen) -> str:
    return next((str(run.number) for run in world.runs if run.run_id == release.candidate), release.candidate or "?")


def _runs(world: World) -> Iterator[Event]:
    for run in world.runs[-RECENT:]:
        created = "" if run.created is None else run.created.isoformat()
        gate = world.gates.get(run.run_id)
        if run.state == "failed":
            yield Event(
                key=f"run:{run.run_id}",
                owner="platform",
                what=f"training run {run.number} of {world.model} failed",
                since=created,
                state="moment",
                cause=run.reason or "no reason given",
                done="the champion serves on",
                todo=f"see the log of run {run.run_id} in `stackyard status`",
            )
        elif gate is not None and not gate.passed:
            yield Event(
                key=f"gate:{run.run_id}",
                owner="model",
                what=f"version {run.number} of {world.model} was refused by its gates",
                since=created,
                state="moment",
                cause=gate.reason,
                done="it is kept with its reasons; the champion serves on",
                todo=f"see `stackyard why {run.number}`",
            )


def _evidence(world: World, now: str) -> Iterator[Event]:
    body = None if world.verdicts is None else world.verdicts.body
    if body is None:
        return
    drift, metric = body.get("drift_alarm"), body.get("metric_alarm")
    yield _trouble(
        "drift",
        "model",
        f"the data of {world.model} has drifted",
        drift,
        now,
        "drift",
        str(body.get("shift_since") or now),
    )
    yield _trouble("metric", "model", f"{world.model} is worse than it has to be", metric, now)
    for day in body.get("quarantined", ()):
        findings = _findings(body, day)
        yield _trouble(
            f"quality:{day}",
            "data",
            f"the data of {day} is not to be believed",
            findings or "see `stackyard status`",
            now,
            since=str(day),
            done="it is quarantined: it neither trains nor judges a model",
            todo=f"mend the source, or release the day by `stackyard data release {day} --because …`",
        )
    for day in body.get("released", ()):
        yield _trouble(f"quality:{day}", "data", "", None, now)


def _findings(body: Mapping[str, Any], day: str) -> str:
    for quality in body.get("quality", ()):
        if isinstance(quality, Mapping) and str(quality.get("day")) == str(day):
            return "; ".join(str(each.get("reason")) for each in quality.get("findings", ()))
    return ""


def _trouble(
    key: str,
    owner: Any,
    what: str,
    cause: str | None,
    now: str,
    topic: str = "",
    since: str = "",
    done: str = "a retraining is considered by the project's policy",
    todo: str = "see `stackyard status`",
) -> Event:
    if cause is None:
        return Event(key=key, owner=owner, what=what, since=now, state="resolved", topic=topic)
    return Event(key=key, owner=owner, what=what, since=since or now, topic=topic, cause=cause, done=done, todo=todo)


def _proposal(world: World, due: Sequence[Action], now: str) -> Iterator[Event]:
    asked = next((action for action in due if isinstance(action, Propose)), None)
    decided = world.verdicts is not None and world.verdicts.body is not None
    if asked is None and (not decided or any(isinstance(action, Ask | Publish) for action in due)):
        return  # a look in which nothing was decided about it does not end it
    yield _trouble(
        "proposal",
        "model",
        "a retraining is due, and this project starts none by itself",
        None if asked is None else asked.reason,
        now,
        done="nothing",
        todo="`stackyard train --because …`",
    )
