"""What the controller does next, as a pure function of what it sees.

Level-triggered: nothing depends on having seen an event, only on how the world is now, so a controller may be
killed between any two lines and its successor decides the same.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

RETRY_AFTER = dt.timedelta(minutes=1)
"""The pause after a first failed run; it doubles with each further one."""
ATTEMPTS = 5
"""Deaths without a result after which a run has failed: each may lose up to one checkpoint's work."""
PATIENCE = 3
"""Failed runs of one recipe after which only a changed spec or a person starts another."""


@dataclass(frozen=True)
class RunSeen:
    """One training run as the world shows it."""

    run_id: str
    number: int
    """The intent's number, from 1."""
    recipe: str
    """Digest of what was to be trained."""
    state: Literal["pending", "running", "succeeded", "failed"]
    """`pending`: intended, no living process, no result."""
    ended: dt.datetime | None = None
    bundle: str | None = None
    reason: str | None = None
    projected: bool = False
    """Whether MLflow shows it."""
    attempts: int = 0
    """How often a process was started for it."""
    started: dt.datetime | None = None
    """When the newest of them was."""


@dataclass(frozen=True)
class World:
    """Everything a decision may depend on."""

    model: str
    recipe: str
    """Digest of the recipe that the spec asks for now."""
    champion: str | None
    """Digest of the live bundle, if there is one."""
    release: int
    """Number of the newest Release; 0 when there is none."""
    runs: Sequence[RunSeen]
    """Oldest first."""
    mlflow: bool = False
    """Whether there is an MLflow to show things in."""


@dataclass(frozen=True)
class StartRun:
    """Carry out run `number`; a run that was interrupted is taken up under the same number."""

    number: int
    reason: str


@dataclass(frozen=True)
class Abandon:
    """Note that run `run_id` has failed: its process keeps dying without a result, or nobody wants one any more."""

    run_id: str
    reason: str


@dataclass(frozen=True)
class Publish:
    """Append a Release that makes `bundle` the champion."""

    number: int
    bundle: str
    reason: str


@dataclass(frozen=True)
class Project:
    """Show a finished run in MLflow."""

    run_id: str
    champion: bool
    """Whether its bundle is the live one."""
    reason: str


@dataclass(frozen=True)
class Wait:
    """Do nothing; `until` says when time alone would change that."""

    reason: str
    until: dt.datetime | None = None


Action = StartRun | Abandon | Publish | Project | Wait


def decide(world: World, now: dt.datetime) -> list[Action]:
    """The actions that are due, in order; never empty, and each with its reason."""
    if world.champion is None:
        action = _first_champion(world, now)
        return [action, *_projections(world)] if isinstance(action, Wait) else [action]
    return [Wait(f"release {world.release} is live with bundle {world.champion[:12]}"), *_projections(world)]


def _projections(world: World) -> list[Action]:
    return [
        Project(run.run_id, run.bundle == world.champion, f"MLflow does not show run {run.number} yet")
        for run in world.runs
        if world.mlflow and run.state == "succeeded" and not run.projected
    ]


def _first_champion(world: World, now: dt.datetime) -> Action:
    last = world.runs[-1] if world.runs else None
    if last is None:
        return StartRun(1, "no champion and no run yet")
    if last.state == "running":
        return Wait(f"run {last.number} is training the first champion")
    if last.state == "pending":
        return _take_up(world, last, now)
    if last.state == "succeeded" and last.bundle is not None:
        return Publish(world.release + 1, last.bundle, f"run {last.number} made the first champion")
    return _after_failure(world, last, now)


def _take_up(world: World, run: RunSeen, now: dt.datetime) -> Action:
    if run.recipe != world.recipe:  # its frozen data and code are those of another spec: the model would be, too
        return Abandon(run.run_id, "it was interrupted, and the recipe has changed since")
    if run.attempts >= ATTEMPTS:
        return Abandon(run.run_id, f"its process died {run.attempts} times without a result")
    if run.attempts == 0 or run.started is None:
        return StartRun(run.number, f"run {run.number} was intended and never started")
    due = run.started + dt.timedelta(seconds=2**run.attempts)
    if now < due:
        return Wait(f"run {run.number} was interrupted; it is taken up at {due:%H:%M:%S} UTC", due)
    return StartRun(run.number, f"run {run.number} was interrupted: taken up at its newest checkpoint")


def _after_failure(world: World, last: RunSeen, now: dt.datetime) -> Action:
    if last.recipe != world.recipe:
        return StartRun(last.number + 1, f"run {last.number} was of another recipe: the project has changed since")
    failures = 0
    for run in reversed(world.runs):
        if run.state != "failed" or run.recipe != world.recipe:
            break
        failures += 1
    why = last.reason or "no reason given"
    if failures >= PATIENCE:
        return Wait(f"{failures} runs of this recipe failed, the last with: {why}. Change the project and `pulumi up`")
    due = now if last.ended is None else last.ended + RETRY_AFTER * 2 ** (failures - 1)
    if now < due:
        return Wait(f"run {last.number} failed with: {why}. The next try is at {due:%H:%M:%S} UTC", due)
    return StartRun(last.number + 1, f"run {last.number} failed with: {why}. Tried again")
