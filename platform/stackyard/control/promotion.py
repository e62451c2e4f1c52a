"""Which Release comes next: a candidate's stages one by one, its promotion, or its end. Pure.

A Release is only published for something that was seen: a verdict on the stage, a person's wish, a signature. What
is missing is said instead.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from stackyard.control.actions import Action, Ask, Publish, Wait
from stackyard.control.candidates import Candidate, candidates, named
from stackyard.control.world import Loop, ReleaseSeen, World

FRESH = dt.timedelta(seconds=60)
"""How old an answer about a stage may be."""
AGAIN = dt.timedelta(seconds=5)
"""After which the question is asked again, on the model's clock."""


def decide(world: World, now: dt.datetime, loop: Loop) -> list[Action]:
    """The one Release that is due, or what it waits for; questions about gates that are open."""
    found, live = candidates(world), world.chain[-1]
    wished = _taken_back(world, found, live)
    if isinstance(wished, Publish):
        return [wished]
    rolling = named(found, live.candidate) if live.step is not None and live.outcome is None else None
    actions = [*([wished] if wished else []), *_gates(world, found)]
    if rolling is not None:
        return [*actions, *_stage(world, now, loop, rolling, live)]
    ready = [each for each in found if each.state == "ready"]
    return [*actions, _begin(world, loop, ready[-1])] if ready else actions


def _taken_back(world: World, found: list[Candidate], live: ReleaseSeen) -> Action | None:
    """The first wish to roll back that no Release has served."""
    served = {release.wish for release in world.chain}
    for wish, (bundle, reason) in world.wishes.rollback.items():
        if wish in served:
            continue
        target = _target(world, live, bundle)
        if target is None:
            return Wait(f"a rollback was asked for, and there is no earlier champion to return to: {reason}")
        if live.step is not None and live.outcome is None and target == live.champion:
            outcome, candidate = "stopped", live.candidate
        else:
            outcome, candidate = "rolled_back", _maker(found, live.champion)
        return Publish(
            world.release + 1,
            target,
            f"taken back by a person: {reason}",
            candidate=candidate,
            outcome=outcome,
            warm=(live.champion,) if target != live.champion else (),
            wish=wish,
        )
    return None


def _target(world: World, live: ReleaseSeen, bundle: str | None) -> str | None:
    """The bundle that a rollback returns to: the champion while a challenger is out, else the champion before."""
    champions = [release.champion for release in world.chain]
    if bundle is not None:
        return bundle if bundle in champions else None
    if live.step is not None and live.outcome is None:
        return live.champion
    return next((each for each in reversed(champions) if each != live.champion), None)


def _maker(found: list[Candidate], bundle: str) -> str | None:
    return next((each.run.run_id for each in found if each.bundle == bundle), None)


def _gates(world: World, found: list[Candidate]) -> list[Action]:
    for each in found:
        if each.state != "ungated":
            continue
        run = each.run
        if world.gating is not None and world.gating.key == run.run_id and world.gating.failure is None:
            return [Wait(f"the gates judge version {run.number}", pending=True)]
        return [Ask("gate", run.run_id, f"version {run.number} is to be judged by its gates", {"run_id": run.run_id})]
    return []


def _begin(world: World, loop: Loop, candidate: Candidate) -> Action:
    if not loop.rollout.stages:
        return _promotion(world, loop, candidate, "there are no stages to pass")
    return _enter(world, loop, candidate, 0, f"version {candidate.run.number} passed its gates: {candidate.reason}")


def _enter(world: World, loop: Loop, candidate: Candidate, step: int, why: str) -> Publish:
    return Publish(
        world.release + 1,
        world.champion or "",
        f"{why}; stage {step + 1} of {len(loop.rollout.stages)}: {loop.rollout.stages[step].kind} "
        f"{loop.rollout.stages[step].share:.0%}",
        step=step,
        arm=candidate.bundle,
        candidate=candidate.run.run_id,
    )


def _stage(world: World, now: dt.datetime, loop: Loop, rolling: Candidate, live: ReleaseSeen) -> list[Action]:
    run, step = rolling.run, live.step or 0
    if run.run_id in world.wishes.rejected:
        return [_end(world, rolling, "stopped", f"rejected by a person: {world.wishes.rejected[run.run_id]}")]
    if run.run_id in world.wishes.promote:
        return [_promotion(world, loop, rolling, f"a person: {world.wishes.promote[run.run_id]}")]
    if step >= len(loop.rollout.stages) or live.arm != rolling.bundle:
        return [_end(world, rolling, "expired", "the spec's stages changed while it was rolled out")]
    mine = world.stage if world.stage is not None and world.stage.key.startswith(f"{live.number}@") else None
    age = dt.timedelta.max if mine is None else now - dt.datetime.fromisoformat(mine.key.partition("@")[2])
    actions: list[Action] = []
    if age >= AGAIN and (mine is None or mine.failure is None):
        question = {"release": live.number, "step": step, "now": now.isoformat()}
        actions.append(
            Ask("stage", f"{live.number}@{now.isoformat()}", f"stage {step + 1} of version {run.number}", question)
        )
    if mine is not None and mine.body is not None and age < FRESH:
        return [*actions, _judged(world, loop, rolling, live, mine.body)]
    if not actions:
        text = f"stage {step + 1} of version {run.number} is being judged"
        actions.append(Wait(text if mine is None else mine.failure or text, pending=mine is None or not mine.failure))
    return actions


def _judged(world: World, loop: Loop, rolling: Candidate, live: ReleaseSeen, verdict: Mapping[str, Any]) -> Action:
    step, reason = live.step or 0, str(verdict["reason"])
    match verdict["action"]:
        case "stop":
            return _end(world, rolling, "stopped", reason)
        case "expire":
            return _end(world, rolling, "expired", reason)
        case "advance" if step + 1 < len(loop.rollout.stages):
            return _enter(world, loop, rolling, step + 1, reason)
        case "advance":
            return _promotion(world, loop, rolling, reason)
        case _:
            until = verdict.get("until")
            return Wait(
                f"version {rolling.run.number}, stage {step + 1} of {len(loop.rollout.stages)}: {reason}",
                dt.datetime.fromisoformat(until) if until else None,
            )


def _promotion(world: World, loop: Loop, candidate: Candidate, why: str) -> Action:
    run = candidate.run
    signatures = world.approved.get(run.run_id, 0)
    if signatures < loop.approvals:
        return Wait(f"version {run.number} waits for {loop.approvals - signatures} of {loop.approvals} signatures")
    if loop.rollout.mode == "manual" and run.run_id not in world.wishes.promote:
        return Wait(f"version {run.number} waits for `stackyard promote {run.number}` (rollout.mode is manual)")
    return Publish(
        world.release + 1,
        candidate.bundle,
        f"version {run.number} is promoted: {why}",
        candidate=run.run_id,
        outcome="promoted",
        warm=(world.champion,) if world.champion else (),
    )


def _end(world: World, rolling: Candidate, outcome: str, reason: str) -> Publish:
    return Publish(
        world.release + 1,
        world.champion or "",
        f"version {rolling.run.number} is {'given up' if outcome == 'expired' else 'stopped'}: {reason}",
        candidate=rolling.run.run_id,
        outcome=outcome,  # type: ignore[arg-type]
    )
