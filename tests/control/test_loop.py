"""The whole loop on a real store and journal, its runs and findings played: retrain, prove, roll out, take back."""

import datetime as dt
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import played
from played import PlayedRuns, Yard, quiet, refused
from stackyard.control import failpoints, reconciler
from stackyard.control.actions import StartRun
from stackyard.control.candidates import candidates
from stackyard.control.reconciler import Reconciler
from stackyard.spec.loop import BudgetSpec, RetrainingSpec, RolloutSpec, StageSpec
from stackyard.spec.models import WindowSpec
from stackyard.store import approvals, audit
from stackyard.store.documents import public_text
from stackyard.store.keys import ensure_signing_key

SUPPORT = Path(played.__file__)


def test_a_drifting_model_is_retrained_and_the_better_one_promoted_stage_by_stage(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    loop = yard.controller()
    yard.settle(loop)
    assert yard.story() == [("live", None, None)]
    yard.days(loop, 8)
    assert yard.story()[:6] == [
        ("live", None, None),
        ("shadow", 0, None),
        ("canary", 1, None),
        ("canary", 2, None),
        ("canary", 3, None),
        ("live", None, "promoted"),
    ]
    last = yard.chain()[5]
    assert last.champion != yard.chain()[0].champion
    assert last.warm == (yard.chain()[0].champion,)


def test_every_release_and_run_stands_in_an_audit_log_whose_heads_releases_sign(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    loop = yard.controller()
    yard.settle(loop)
    yard.days(loop, 8)
    key = ensure_signing_key(yard.settings.signing_key)
    report = audit.verify(yard.store, "m", [public_text(key.public_key())])
    assert report.broken is None, report
    assert report.sealed >= len(yard.chain())


def test_a_candidate_that_its_gates_refuse_is_kept_with_its_reasons_and_never_released(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    loop = yard.controller(gate=refused)
    yard.settle(loop)
    yard.days(loop, 3)
    assert yard.story() == [("live", None, None)]
    (found,) = candidates(loop.observe())
    assert (found.state, found.reason) == ("refused", "worse by 0.02")


@pytest.mark.parametrize(
    ("action", "outcome"),
    [pytest.param("stop", "stopped", id="harm"), pytest.param("expire", "expired", id="deadline")],
)
def test_a_challenger_without_a_good_verdict_ends_and_the_champion_stays(
    tmp_path: Path, action: str, outcome: str
) -> None:
    yard = Yard(tmp_path)
    loop = yard.controller(stage=lambda _: {"action": action, "reason": "5 % of answers failed", "checks": []})
    yard.settle(loop)
    yard.days(loop, 2)
    chain = yard.chain()
    assert [(each.stage, each.outcome) for each in chain] == [("live", None), ("shadow", None), ("live", outcome)]
    assert len({each.champion for each in chain}) == 1
    assert "5 % of answers failed" in chain[-1].reason


def test_a_stage_that_holds_lets_time_go_on(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    loop = yard.controller(stage=lambda _: {"action": "hold", "reason": "40 of 100 requests", "checks": []})
    yard.settle(loop)
    assert "40 of 100 requests" in yard.days(loop, 3)
    assert yard.story()[-1] == ("shadow", 0, None)


@pytest.mark.parametrize(
    ("stages", "story"),
    [
        pytest.param((), [("live", None, "promoted")], id="direct"),
        pytest.param(
            (StageSpec(kind="canary", share=1.0),), [("canary", 0, None), ("live", None, "promoted")], id="blue-green"
        ),
    ],
)
def test_direct_and_blue_green_are_lists_of_stages(tmp_path: Path, stages: Any, story: list[Any]) -> None:
    yard = Yard(tmp_path, rollout=RolloutSpec(stages=stages))
    loop = yard.controller()
    yard.settle(loop)
    yard.days(loop, 2)
    assert yard.story()[1 : 1 + len(story)] == story


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [pytest.param("stop", "rolled_back", id="disappoints"), pytest.param("advance", None, id="stands")],
)
def test_a_promotion_is_watched_and_taken_back_when_the_former_champion_proves_better(
    tmp_path: Path, verdict: str, outcome: str | None
) -> None:
    def judged(question: Any) -> dict[str, Any]:
        return {"action": verdict if question.get("watch") else "advance", "reason": "0.02 AUC", "checks": []}

    yard = Yard(tmp_path, rollout=RolloutSpec.model_validate({"stages": (), "watch": "1d"}))
    loop = yard.controller(stage=judged)
    yard.settle(loop)
    yard.days(loop, 2)
    first, watched, last = yard.chain()[:3]
    assert (watched.stage, watched.outcome, watched.arms[0].bundle) == ("watch", "promoted", first.champion)
    assert (last.stage, last.outcome, last.arms) == ("live", outcome, ())
    assert last.champion == (first.champion if outcome else watched.champion)


def test_a_person_takes_a_promotion_back_and_gets_the_warm_champion_before(tmp_path: Path) -> None:
    yard = Yard(tmp_path, rollout=RolloutSpec(stages=()))
    loop = yard.controller()
    yard.settle(loop)
    yard.days(loop, 2)
    first, promoted = yard.chain()
    wish = yard.wish("rollback")
    yard.settle(loop)
    last = yard.chain()[-1]
    assert (last.champion, last.outcome, last.wish) == (first.champion, "rolled_back", wish)
    assert last.warm == (promoted.champion,)
    assert len(yard.chain()) == 3, "a wish is served once"


def test_a_person_stops_a_rollout_by_rejecting_its_version(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    loop = yard.controller(stage=lambda _: {"action": "hold", "reason": "few requests", "checks": []})
    yard.settle(loop)
    yard.days(loop, 2)
    run = yard.journal.runs("m")[-1].run_id
    yard.wish("reject", run=run)
    yard.settle(loop)
    assert yard.story()[-1] == ("live", None, "stopped")
    assert "ann" in yard.chain()[-1].reason


def test_a_retraining_asked_for_by_hand_needs_no_trigger_and_happens_once(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    loop = yard.controller(verdicts=quiet)
    yard.settle(loop)
    yard.days(loop, 3)
    assert len(yard.runs.started) == 1
    wish = yard.wish("train")
    yard.settle(loop)
    yard.days(loop, 3)
    assert [run.wish for run in yard.journal.runs("m")] == [None, wish]


def test_a_day_that_a_person_lets_go_is_weighed_anew_at_once(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    loop = yard.controller(verdicts=quiet)
    yard.settle(loop)
    yard.wish("release_day", day=dt.date(2025, 12, 30))
    yard.settle(loop)
    asked = [question["released"] for kind, question in yard.worker.asked if kind == "verdicts"]
    assert asked == [{}, {"2025-12-30": yard.clock.now().isoformat()}]


def test_a_paused_loop_starts_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    loop = yard.controller()
    yard.settle(loop)
    yard.wish("pause")
    assert "paused" in yard.days(loop, 3)
    assert len(yard.runs.started) == 1
    yard.wish("resume")
    yard.days(loop, 1)
    assert len(yard.runs.started) == 2


def test_a_manual_rollout_waits_for_a_person(tmp_path: Path) -> None:
    yard = Yard(tmp_path, rollout=RolloutSpec(mode="manual"))
    loop = yard.controller()
    yard.settle(loop)
    assert "stackyard promote" in yard.days(loop, 2)
    yard.wish("promote", run=yard.journal.runs("m")[-1].run_id)
    yard.settle(loop)
    assert yard.story()[-1] == ("live", None, "promoted")


def test_a_promotion_waits_for_its_signatures(tmp_path: Path) -> None:
    ann = ensure_signing_key(tmp_path / "ann")
    yard = Yard(tmp_path, approvals={"required": 1, "approvers": {"ann": public_text(ann.public_key())}})
    loop = yard.controller()
    yard.settle(loop)
    assert "1 of 1 signatures" in yard.days(loop, 2)
    run = loop.observe().runs[-1]
    subject = approvals.subject_of(yard.store, "m", run.run_id, run.bundle or "", "p" * 64)
    approvals.approve(yard.store, approvals.Approval(subject=subject, by="ann", created="2026-01-01T00:00:00Z"), ann)
    yard.settle(loop)
    assert yard.story()[-1] == ("live", None, "promoted")


def test_approvals_are_verified_when_they_change_and_only_while_the_candidate_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, verified = ensure_signing_key(tmp_path / "ann"), []
    count = approvals.count
    monkeypatch.setattr(approvals, "count", lambda *given: verified.append(given[1]) or count(*given))
    yard = Yard(tmp_path, approvals={"required": 2, "approvers": {"ann": public_text(ann.public_key())}})
    loop = yard.controller()
    yard.settle(loop)
    yard.days(loop, 2)
    run = loop.observe().runs[-1]
    subject = approvals.subject_of(yard.store, "m", run.run_id, run.bundle or "", "p" * 64)
    assert verified == [subject]
    approvals.approve(yard.store, approvals.Approval(subject=subject, by="ann", created="2026-01-01T00:00:00Z"), ann)
    assert [dict(loop.observe().approved) for _ in range(3)] == [{run.run_id: 1}] * 3
    assert verified == [subject] * 2
    yard.wish("reject", run=run.run_id)
    yard.settle(loop)
    assert (dict(loop.observe().approved), len(verified)) == ({}, 2)


def _life(folder: Path, days: int, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(SUPPORT.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, str(SUPPORT), str(folder), str(days)],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = _life(tmp_path_factory.mktemp("undisturbed") / "y", 9)
    assert done.returncode == 0, done.stderr
    return _told(done)


@pytest.mark.slow  # earns: that nothing is lost or done twice wherever the controller is killed
@pytest.mark.parametrize("name", failpoints.NAMES)
def test_a_controller_killed_at_any_failpoint_ends_where_an_undisturbed_one_does(
    tmp_path: Path, undisturbed: dict[str, Any], name: str
) -> None:
    killed = _life(tmp_path / "y", 9, **{failpoints.VARIABLE: name})
    assert killed.returncode == -9, f"{name} was never reached: {killed.stdout}{killed.stderr}"
    again = _life(tmp_path / "y", 9)
    assert again.returncode == 0, again.stderr
    assert _told(again) == undisturbed


class _Killed(BaseException):
    """Stands for kill -9 inside a thread: nothing of the loop may catch it."""


@pytest.mark.slow
def test_ten_thousand_triggers_in_eight_threads_with_three_kills_make_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earns: that one intent is one run, however often, in which order and to how many it is told."""
    yard = Yard(tmp_path)
    first = yard.controller(verdicts=quiet)
    yard.settle(first)
    yard.runs.lasting = True
    kills, lock = ["run-intended", "run-claimed", "run-started"], threading.Lock()

    def hit(name: str) -> None:
        with lock:
            if kills and kills[0] == name:
                kills.pop(0)
                raise _Killed

    monkeypatch.setattr(reconciler, "hit", hit)
    day = yard.clock.now().date()
    window = WindowSpec(start=day - dt.timedelta(days=60), end=day)
    told = [0]

    def controller() -> Reconciler:
        made = yard.controller()
        made.observe()
        return made

    def live(seed: int) -> None:
        chance, loop = random.Random(seed), controller()
        for number in range(1250):
            trigger = StartRun(2, chance.choice(["drift", "a low AUC", "the schedule", "new rows"]), window)
            try:
                loop.act(trigger, yard.clock.now())
                if number % 250 == 0:
                    loop.step()
            except _Killed:
                loop = controller()
        with lock:
            told[0] += 1250

    threads = [threading.Thread(target=live, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(8):  # what a kill left half done is taken up
        first.step()
    assert (told[0], kills) == (10_000, [])
    assert len([run for run in yard.journal.runs("m") if run.asked]) == 1
    assert len(set(yard.runs.started)) == 2
    assert len(yard.runs.living) == 1


@pytest.mark.slow
def test_fifty_models_with_room_for_five_start_five_and_queue_the_others_with_reasons(tmp_path: Path) -> None:
    policy = RetrainingSpec(budget=BudgetSpec(runs=5))
    yards = [Yard(tmp_path, model=f"m{number:02}", retraining=policy) for number in range(50)]
    together = PlayedRuns(yards[0].store)
    for yard in yards:
        yard.runs = together
        settled = yard.controller(verdicts=quiet)
        for _ in range(5):
            settled.step()
        yard.clock.set(yard.clock.now() + dt.timedelta(days=3))
    together.lasting, together.started = True, []
    loops = [yard.controller() for yard in yards]
    for _ in range(4):
        for loop in loops:
            loop.step()
    queued = [why for yard in yards if "waits for its turn" in (why := yard.settle_why())]
    assert (len(together.started), len(together.living), len(queued)) == (5, 5, 45)
    assert all("5 of 5 places are taken" in why for why in queued)
