"""Which Release comes next: a candidate's stages one by one, its promotion, or its end. Pure.

A Release is only published for something that was seen: a verdict on the stage, a person's wish, a signature. What
is missing is said instead.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stackyard.control.actions import Action, Ask, Publish, Wait
from stackyard.control.candidates import Candidate, candidates, named
from stackyard.control.world import Loop, ReleaseSeen, World
from stackyard.store.chain import former

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
    if ready:
        return [*actions, _begin(world, loop, ready[-1])]
    return [*actions, *(_watch(world, now, live) if live.stage == "watch" else [])]


def _taken_back(world: World, found: list[Candidate], live: ReleaseSeen) -> Action | None:
    """The first wish to roll back that no Release has served; one that cannot be served keeps no other waiting."""
    served, waiting = {release.wish for release in world.chain}, None
    for wish, (bundle, reason) in world.wishes.rollback.items():
        if wish in served:
            continue
        target = _target(world, live, bundle)
        if target is None:
            told = f"a rollback was asked for, and there is no earlier champion to return to: {reason}"
            waiting = waiting or Wait(told)
        else:
            return _returned(world, found, live, target, wish, reason)
    return waiting


def _returned(world: World, found: list[Candidate], live: ReleaseSeen, target: str, wish: str, reason: str) -> Publish:
    """The Release that serves a rollback to `target`, also where nothing is left to take back: it is asked once."""
    back = Publish(world.release + 1, target, f"taken back by a person: {reason}", wish=wish)
    if target != live.champion:
        return replace(back, candidate=_maker(found, live.champion), outcome="rolled_back", warm=(live.champion,))
    if live.step is not None and live.outcome is None:
        return replace(back, candidate=live.candidate, outcome="stopped")
    return replace(back, reason=f"a rollback to the bundle that is live: {reason}")


def _target(world: World, live: ReleaseSeen, bundle: str | None) -> str | None:
    """The bundle that a rollback returns to: the champion while a challenger is out, else the champion before."""
    champions = [release.champion for release in world.chain]
    if bundle is not None:
        return bundle if bundle in champions else None
    if live.step is not None and live.outcome is None:
        return live.champion
    return former(world.chain)


def _maker(found: list[Candidate], bundle: str) -> str | None:
    return next((each.run.run_id for each in found if each.bundle == bundle), None)


def _gates(world: World, found: list[Candidate]) -> list[Action]:
    """The newest candidate that is to be judged; one that cannot be judged keeps no other waiting."""
    failed: list[Action] = []
    for each in reversed(found):
        if each.state != "ungated":
            continue
        run, asked = each.run, world.gating if world.gating and world.gating.key == each.run.run_id else None
        if asked is None:
            question = {"run_id": run.run_id}
            return [Ask("gate", run.run_id, f"version {run.number} is to be judged by its gates", question)]
        if asked.failure is None:
            return [Wait(f"the gates judge version {run.number}", pending=True)]
        failed = [Wait(f"the gates cannot judge version {run.number}: {asked.failure}")]
    return failed


def _begin(world: World, loop: Loop, candidate: Candidate) -> Action:
    if world.wishes.paused is not None:
        return Wait(f"version {candidate.run.number} is ready, and the loop is paused: {world.wishes.paused}")
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
        # Loaded beside the champion before the last stage ends, so that its promotion is a pointer swap.
        warm=(candidate.bundle,) if step + 1 == len(loop.rollout.stages) else (),
    )


def _stage(world: World, now: dt.datetime, loop: Loop, rolling: Candidate, live: ReleaseSeen) -> list[Action]:
    run, step = rolling.run, live.step or 0
    if run.run_id in world.wishes.rejected:
        return [_end(world, rolling, "stopped", f"rejected by a person: {world.wishes.rejected[run.run_id]}")]
    hurried: Action | None = None
    if run.run_id in world.wishes.promote:
        hurried = _promotion(world, loop, rolling, f"a person: {world.wishes.promote[run.run_id]}")
        if isinstance(hurried, Publish):
            return [hurried]
    if step >= len(loop.rollout.stages) or live.arm != rolling.bundle:
        return [_end(world, rolling, "expired", "the spec's stages changed while it was rolled out")]
    subject = f"stage {step + 1} of version {run.number}"
    asked, verdict = _question(world, now, live, subject, {"step": step})
    if verdict is None:
        return [*asked, *([hurried] if hurried else [])]
    if hurried is None or verdict["action"] == "stop":  # harm is seen also while signatures are awaited
        hurried = _judged(world, loop, rolling, live, verdict)
    if isinstance(hurried, Wait) and verdict["action"] == "advance" and (newer := _overtaken(world, loop, live, now)):
        hurried = _end(world, rolling, "expired", f"{hurried.reason}, past its deadline, and version {newer} is ready")
    return [*asked, hurried]


def _overtaken(world: World, loop: Loop, live: ReleaseSeen, now: dt.datetime) -> int | None:
    """The version that waits behind a candidate whose stage is past its deadline."""
    deadline = dt.timedelta(seconds=loop.rollout.stages[live.step or 0].deadline)
    if live.created is None or now < live.created + deadline:
        return None
    return next((each.run.number for each in candidates(world) if each.state == "ready"), None)


def _watch(world: World, now: dt.datetime, live: ReleaseSeen) -> list[Action]:
    """The former champion beside the new one: it returns when its answers prove better."""
    asked, verdict = _question(world, now, live, "the watch over the promotion", {"watch": True})
    if verdict is None:
        return asked
    reason, former = str(verdict["reason"]), live.arm or ""
    match verdict["action"]:
        case "stop":
            taken = f"the former champion returns: {reason}"
            end = Publish(world.release + 1, former, taken, candidate=live.candidate, outcome="rolled_back")
            return [*asked, replace(end, warm=(live.champion,))]
        case "advance" | "expire":
            return [*asked, Publish(world.release + 1, live.champion, f"the promotion stands: {reason}")]
        case _:
            return [*asked, Wait(f"the promotion is watched: {reason}", _until(verdict))]


def _question(
    world: World, now: dt.datetime, live: ReleaseSeen, subject: str, arguments: Mapping[str, Any]
) -> tuple[list[Action], Mapping[str, Any] | None]:
    """What is to be asked or awaited about the arms of the newest Release, and the verdict that is fresh enough."""
    mine = world.stage if world.stage is not None and world.stage.key.startswith(f"{live.number}@") else None
    age = dt.timedelta.max if mine is None else now - dt.datetime.fromisoformat(mine.key.partition("@")[2])
    actions: list[Action] = []
    if age >= AGAIN and (mine is None or mine.failure is None):
        question = {"release": live.number, "now": now.isoformat(), **arguments}
        actions.append(Ask("stage", f"{live.number}@{now.isoformat()}", f"{subject} is to be judged", question))
    if mine is not None and mine.body is not None and age < FRESH:
        return actions, mine.body
    if not actions:
        text = f"{subject} is being judged"
        actions.append(Wait(text if mine is None else mine.failure or text, pending=mine is None or not mine.failure))
    return actions, None


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
            held = f"version {rolling.run.number}, stage {step + 1} of {len(loop.rollout.stages)}: {reason}"
            return Wait(held, _until(verdict))


def _until(verdict: Mapping[str, Any]) -> dt.datetime | None:
    until = verdict.get("until")
    return dt.datetime.fromisoformat(until) if until else None


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
        arm=world.champion if loop.rollout.watch else None,
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
