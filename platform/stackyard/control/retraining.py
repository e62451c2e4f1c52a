"""Whether a retraining starts: the policy's answer to what the evidence says, as an action. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from stackyard.control import policy
from stackyard.control.actions import Action, Ask, Propose, StartRun, Wait
from stackyard.control.candidates import Candidate, named
from stackyard.control.world import Loop, RunSeen, World


def decide(world: World, now: dt.datetime, loop: Loop, found: Sequence[Candidate]) -> list[Action]:
    """Ask for the evidence of the days that are over, then start, propose or hold."""
    let_go = len(world.wishes.released)  # days are only ever added: another number is another question
    key = f"{now.date()}/{world.champion}" + (f"/{let_go}" if let_go else "")
    answer = world.verdicts
    if answer is None or answer.key != key:
        learnt = _learnt(world)
        arguments = {
            "until": now.date().isoformat(),
            "champion": world.champion,
            "now": now.isoformat(),
            "data_end": None if learnt is None else learnt.isoformat(),
        }
        return [Ask("verdicts", key, f"the evidence up to {now.date()} is to be weighed", arguments)]
    if answer.body is None:
        return [Wait(answer.failure or f"the evidence up to {now.date()} is being weighed", pending=not answer.failure)]
    wish, because = _asked(world)
    said = policy.decide(loop.retraining, _seen(world, loop, found, answer.body, because), now)
    match said:
        case policy.Retrain():
            number = max((run.number for run in world.runs), default=0) + 1
            return [StartRun(number, said.reason, said.window, wish)]
        case policy.Propose():
            return [Propose(said.reason)]
        case policy.Hold():
            return [Wait(said.reason, said.until)]


def _asked(world: World) -> tuple[str | None, str | None]:
    """The oldest wish for a retraining that no run has served, and its reason."""
    served = {run.wish for run in world.runs}
    return next(((wish, why) for wish, why in world.wishes.train.items() if wish not in served), (None, None))


def _seen(
    world: World, loop: Loop, found: Sequence[Candidate], body: Mapping[str, Any], because: str | None
) -> policy.PolicySeen:
    shift = body.get("shift_since")
    return policy.PolicySeen(
        champion_data_end=_data_end(world, loop, body),
        labelled_until=dt.date.fromisoformat(body["labelled_until"]),
        metric_alarm=body.get("metric_alarm"),
        drift_alarm=body.get("drift_alarm"),
        shift_since=dt.date.fromisoformat(shift) if shift else None,
        new_rows=int(body.get("new_rows") or 0),
        runs=tuple(_past(world, run, found) for run in world.runs if run.challenger and run.created is not None),
        by_hand=because,
        paused=world.wishes.paused is not None,
        running=any(run.state in ("running", "pending") for run in world.runs),
        data_start=loop.data_start,
        since=world.chain[0].created if world.chain else None,
    )


def _past(world: World, run: RunSeen, found: Sequence[Candidate]) -> policy.PastRun:
    made = named(found, run.run_id)
    ended = next((each.created for each in world.chain if each.candidate == run.run_id and each.outcome), None)
    promoted = made.promoted if made else (False if run.state == "failed" else None)
    assert run.created is not None
    return policy.PastRun(
        started=run.created,
        promoted=promoted,
        cpu_hours=run.cpu_hours,
        gpu_hours=run.gpu_hours,
        by_hand=run.wish is not None,
        ended=ended,
    )


def _data_end(world: World, loop: Loop, body: Mapping[str, Any]) -> dt.date:
    """The end of what the champion learnt from; without its run, what the evidence says of it."""
    told = body.get("champion_data_end")
    return _learnt(world) or (dt.date.fromisoformat(told) if told else loop.data_start)


def _learnt(world: World) -> dt.date | None:
    return next((run.data_end for run in world.runs if run.bundle == world.champion and run.data_end), None)
