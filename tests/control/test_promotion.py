"""Which Release comes next, from a world alone: what people wish, what was found out, and what must not wait."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from stackyard.control import promotion
from stackyard.control.actions import Action, Ask, Publish, Wait
from stackyard.control.candidates import candidates
from stackyard.control.world import Answer, GateSeen, Loop, ReleaseSeen, RunSeen, Wishes, World
from stackyard.spec.loop import RolloutSpec, StageSpec
from stackyard.store.chain import former

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
FIRST, SECOND, THIRD = ("a" * 64, "b" * 64, "c" * 64)
ROLLOUT = RolloutSpec(stages=(StageSpec(kind="canary", share=0.1),))
LOOP, SIGNED = Loop(rollout=ROLLOUT), Loop(rollout=ROLLOUT, approvals=1)
PASSED = GateSeen(True, "better", "d" * 64)
ADVANCE, HARM, HOLD = ({"action": name, "reason": name} for name in ("advance", "stop", "hold"))


def _chain(*releases: dict[str, Any]) -> list[ReleaseSeen]:
    return [ReleaseSeen(**{"number": place, "created": NOW, **one}) for place, one in enumerate(releases, start=1)]


PROMOTED = {"champion": SECOND, "candidate": "m-2", "outcome": "promoted"}
CANARY = _chain(
    {"champion": FIRST}, {"champion": FIRST, "stage": "canary", "step": 0, "arm": SECOND, "candidate": "m-2"}
)
WATCH = _chain({"champion": FIRST}, {**PROMOTED, "stage": "watch", "arm": FIRST})


def _world(chain: Sequence[ReleaseSeen], *, versions: Sequence[int] = (2,), **more: Any) -> World:
    bundles = {2: SECOND, 3: THIRD}
    runs = [
        RunSeen(f"m-{number}", number, "r", "succeeded", bundle=bundles[number], challenger=True) for number in versions
    ]
    known = {"gates": {run.run_id: PASSED for run in runs}, "loop": LOOP}
    return World("m", "r", chain[-1].champion, chain[-1].number, runs, chain=chain, **{**known, **more})


def _stage(verdict: dict[str, str], number: int = 2, at: dt.datetime = NOW) -> Answer:
    return Answer(f"{number}@{at.isoformat()}", verdict)


def _decided(world: World, loop: Loop = LOOP, now: dt.datetime = NOW) -> Action:
    return promotion.decide(world, now, loop)[-1]


@pytest.mark.parametrize(
    ("chain", "wish", "expected"),
    [
        pytest.param(CANARY, None, (FIRST, "m-2", "stopped"), id="a challenger is out"),
        pytest.param(_chain({"champion": FIRST}, PROMOTED), None, (FIRST, "m-2", "rolled_back"), id="a promotion"),
        pytest.param(WATCH, FIRST, (FIRST, "m-2", "rolled_back"), id="a promotion under watch"),
        pytest.param(WATCH, SECOND, (SECOND, None, None), id="to what is live takes nothing back"),
        pytest.param(CANARY[:1], FIRST, (FIRST, None, None), id="asked twice by two people"),
    ],
)
def test_a_rollback_says_what_it_took_back(
    chain: list[ReleaseSeen], wish: str | None, expected: tuple[str, str | None, str | None]
) -> None:
    action = _decided(_world(chain, wishes=Wishes(rollback={"w": (wish, "it is bad")})))
    assert isinstance(action, Publish)
    assert (action.bundle, action.candidate, action.outcome, action.wish) == (*expected, "w")


def test_a_rollback_that_cannot_be_served_keeps_no_other_waiting() -> None:
    wishes = Wishes(rollback={"w1": (THIRD, "never champion"), "w2": (FIRST, "it is bad")})
    action = _decided(_world(_chain({"champion": FIRST}, PROMOTED), wishes=wishes))
    assert isinstance(action, Publish)
    assert (action.bundle, action.wish) == (FIRST, "w2")


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        pytest.param([(FIRST, None)], None, id="the first"),
        pytest.param([(FIRST, None), (SECOND, "promoted")], FIRST, id="a promotion"),
        pytest.param([(FIRST, None), (SECOND, "promoted"), (SECOND, None)], FIRST, id="a promotion that stood"),
        pytest.param([(FIRST, None), (SECOND, "promoted"), (FIRST, "rolled_back")], None, id="never back to the bad"),
        pytest.param(
            [(FIRST, None), (SECOND, "promoted"), (THIRD, "promoted"), (SECOND, "rolled_back")], FIRST, id="two steps"
        ),
        pytest.param(
            [(FIRST, None), (SECOND, "promoted"), (FIRST, "rolled_back"), (SECOND, "promoted"), (THIRD, "promoted")],
            SECOND,
            id="it was promoted again",
        ),
    ],
)
def test_the_champion_before_is_the_last_one_that_nobody_took_back(
    chain: list[tuple[str, str | None]], expected: str | None
) -> None:
    assert former(_chain(*({"champion": champion, "outcome": outcome} for champion, outcome in chain))) == expected


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [
        pytest.param(HARM, "stopped", id="harm"),
        pytest.param(HOLD, None, id="none"),
        pytest.param(ADVANCE, None, id="good"),
    ],
)
def test_who_waits_for_signatures_is_still_taken_away_for_harm(verdict: dict[str, str], outcome: str | None) -> None:
    world = _world(CANARY, stage=_stage(verdict), wishes=Wishes(promote={"m-2": "now"}))
    action = _decided(world, SIGNED)
    if outcome is None:
        assert isinstance(action, Wait)
        assert "1 of 1 signatures" in action.reason
    else:
        assert isinstance(action, Publish)
        assert (action.bundle, action.outcome) == (FIRST, outcome)


@pytest.mark.parametrize(
    ("age", "versions", "outcome"),
    [
        pytest.param(dt.timedelta(), (2, 3), None, id="within its deadline"),
        pytest.param(dt.timedelta(days=99), (2,), None, id="nobody waits"),
        pytest.param(dt.timedelta(days=99), (2, 3), "expired", id="another waits"),
    ],
)
def test_who_waits_for_signatures_past_the_deadline_blocks_no_later_candidate(
    age: dt.timedelta, versions: tuple[int, ...], outcome: str | None
) -> None:
    now = NOW + age
    action = _decided(_world(CANARY, versions=versions, stage=_stage(ADVANCE, at=now)), SIGNED, now)
    assert getattr(action, "outcome", None) == outcome


def test_a_pause_begins_no_rollout() -> None:
    ready = _world(CANARY[:1])
    assert isinstance(_decided(ready), Publish)
    paused = _decided(_world(CANARY[:1], wishes=Wishes(paused="a holiday")))
    assert isinstance(paused, Wait)
    assert "a holiday" in paused.reason


def test_a_candidate_that_cannot_be_judged_blocks_no_later_one_and_is_not_asked_for_without_end() -> None:
    failed = Answer("m-2", failure="KeyError: holdout")
    alone = promotion.decide(_world(CANARY[:1], gates={}, gating=failed), NOW, LOOP)
    assert [type(action) for action in alone] == [Wait]
    asked = promotion.decide(_world(CANARY[:1], versions=(2, 3), gates={}, gating=failed), NOW, LOOP)
    assert [action.key for action in asked if isinstance(action, Ask)] == ["m-3"]
    done = _world(CANARY[:1], versions=(2, 3), gates={"m-3": PASSED}, gating=failed)
    action = _decided(done)
    assert isinstance(action, Publish)
    assert action.arm == THIRD


def test_a_superseded_candidate_stays_so_whatever_becomes_of_the_newer_one() -> None:
    ends = [{"champion": FIRST, "candidate": "m-3", "outcome": outcome} for outcome in ("stopped", "rolled_back")]
    for chain in (
        _chain({"champion": FIRST}, ends[0]),
        _chain({"champion": FIRST}, {**PROMOTED, "candidate": "m-3"}, ends[1]),
    ):
        states = [each.state for each in candidates(_world(chain, versions=(2, 3)))]
        assert states == ["superseded", chain[-1].outcome]
        assert promotion.decide(_world(chain, versions=(2, 3)), NOW, LOOP) == []


@pytest.mark.parametrize(
    ("rival", "stages", "state"),
    [
        pytest.param(SECOND, (), "ready", id="this champion"),
        pytest.param(FIRST, (), "superseded", id="another, direct"),
        pytest.param(FIRST, ROLLOUT.stages, "superseded", id="another, canary alone"),
        pytest.param(FIRST, (StageSpec(kind="shadow"), *ROLLOUT.stages), "ready", id="another, and a shadow will tell"),
    ],
)
def test_who_was_compared_with_another_champion_is_compared_with_this_one_or_never_live(
    rival: str, stages: tuple[StageSpec, ...], state: str
) -> None:
    gates = {"m-2": PASSED, "m-3": replace(PASSED, champion=rival)}
    loop = Loop(rollout=RolloutSpec(stages=stages))
    world = _world(_chain({"champion": FIRST}, PROMOTED), versions=(2, 3), gates=gates, loop=loop)
    assert candidates(world)[-1].state == state
