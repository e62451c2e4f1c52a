"""What the controller does next, as a pure function of what it sees.

Level-triggered: nothing depends on having seen an event, only on how the world is now, so a controller may be
killed between any two lines and its successor decides the same.
"""

from __future__ import annotations

import datetime as dt

from stackyard.control import promotion, retraining
from stackyard.control.actions import Abandon, Action, Project, Publish, StartRun, Wait
from stackyard.control.candidates import candidates
from stackyard.control.world import RunSeen, World

RETRY_AFTER = dt.timedelta(minutes=1)
"""The pause after a first failed run; it doubles with each further one."""
ATTEMPTS = 5
"""Deaths without a result after which a run has failed: each may lose up to one checkpoint's work."""
PATIENCE = 3
"""Failed runs of one recipe after which only a changed spec or a person starts another."""


def decide(world: World, now: dt.datetime) -> list[Action]:
    """The actions that are due, in order; never empty, and each with its reason."""
    machine = world.machine or now
    if world.champion is None:
        action = _first_champion(world, machine)
        return [action, *_projections(world)] if isinstance(action, Wait) else [action]
    live = Wait(f"release {world.release} is live with bundle {world.champion[:12]}")
    if world.loop is None:
        return [live, *_projections(world)]
    releases = promotion.decide(world, now, world.loop)
    if any(isinstance(action, Publish) for action in releases):
        return releases  # one Release at a time: all else is decided in its light
    return [*(releases or [live]), *_training(world, now, machine), *_projections(world)]


def _training(world: World, now: dt.datetime, machine: dt.datetime) -> list[Action]:
    """The run under way, or what the policy says of another."""
    last = world.runs[-1] if world.runs else None
    if last is not None and last.challenger and last.state == "pending":
        return [_take_up(world, last, machine)]
    if last is not None and last.state == "running":
        return [Wait(f"run {last.number} is training", pending=True)]
    assert world.loop is not None
    return retraining.decide(world, now, world.loop, candidates(world))


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
        return Wait(f"run {last.number} is training the first champion", pending=True)
    if last.state == "pending":
        return _take_up(world, last, now)
    if last.state == "succeeded" and last.bundle is not None:
        return Publish(world.release + 1, last.bundle, f"run {last.number} made the first champion")
    return _after_failure(world, last, now)


def _take_up(world: World, run: RunSeen, now: dt.datetime) -> Action:
    if run.queued is not None:
        return Wait(f"run {run.number} waits for its turn: {run.queued}", pending=True)
    if run.recipe != world.recipe:  # its frozen data and code are those of another spec: the model would be, too
        return Abandon(run.run_id, "it was interrupted, and the recipe has changed since")
    if run.attempts >= ATTEMPTS:
        return Abandon(run.run_id, f"its process died {run.attempts} times without a result")
    if run.attempts == 0 or run.started is None:
        return StartRun(run.number, f"run {run.number} was intended and never started", attempts=run.attempts)
    due = run.started + dt.timedelta(seconds=2**run.attempts)
    if now < due:
        return Wait(f"run {run.number} was interrupted; it is taken up at {due:%H:%M:%S} UTC", due, pending=True)
    reason = f"run {run.number} was interrupted: taken up at its newest checkpoint"
    return StartRun(run.number, reason, attempts=run.attempts)


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
