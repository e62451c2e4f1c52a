"""One stage of a rollout, judged: what advances, holds, stops and expires, and when the traffic settles it."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackyard.control import traffic
from stackyard.control.rollout import ArmFacts, Paired, StageEvidence, StageSeen, StageVerdict, decide, watch
from stackyard.data.sketches import Sketch
from stackyard.spec.loop import MonitoringSpec, RolloutSpec
from stackyard.spec.models import TaskSpec

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
BINARY = TaskSpec(type="binary", label="late")
STAGES = (
    {"kind": "shadow", "time": "7d", "deadline": "14d"},
    {"kind": "canary", "share": 0.05, "requests": 40, "time": "1d", "deadline": "4d"},
    {"kind": "canary", "share": 1.0, "requests": 40, "time": "1d", "deadline": "4d"},
)
SPEC = RolloutSpec.model_validate({"stages": STAGES, "guards": {"errors": 0.05}})
SHADOW, CANARY, WHOLE = range(3)
GUARDED = RolloutSpec.model_validate({"stages": STAGES, "guards": {"errors": 0.05, "metric": 0.05}})
REGRESSION = TaskSpec(type="regression", label="minutes")


def _outputs(rows: int, low: float = 0.75) -> Sketch:
    counts = np.array([round(rows * low), rows - round(rows * low)])
    return Sketch(kind="number", edges=(0.5,), counts=counts, total=int(counts.sum()))


def _arm(requests: int, failed: int = 0, outcome: str = "error", slow: int = 0, low: float = 0.75) -> ArmFacts:
    ok = requests - failed
    outcomes = {"ok": ok} | ({outcome: failed} if failed else {})
    return ArmFacts(requests, outcomes, slow, _outputs(ok, low))


def _paired(rows: int, better: float = 0.0, seed: int = 1, task: TaskSpec = BINARY) -> Paired:
    rng = np.random.default_rng(seed)
    labels = (rng.random(rows) < 0.25).astype(float)
    if task.type == "regression":
        labels = rng.normal(0, 10, rows)
        noise = rng.normal(0, 3, rows)
        return Paired(labels, labels + noise, labels + noise * (1 - better))
    shared = rng.normal(0, 1, rows)
    champion, challenger = (0.8 * labels + shared + rng.normal(0, 0.1, rows) for _ in range(2))
    return Paired(labels, champion, challenger + better * labels)


def _shadow(days: float, paired: Paired | None, challenger: ArmFacts | None = None, fused: int = 0) -> StageEvidence:
    asked = int(920 * days)
    return StageEvidence(_arm(asked), challenger or _arm(asked), (asked, asked), START + days * DAY, paired, fused)


def _canary(days: float, champion: ArmFacts, challenger: ArmFacts, fused: int = 0) -> StageEvidence:
    assigned = (champion.requests, challenger.requests)
    return StageEvidence(champion, challenger, assigned, START + days * DAY, None, fused)


def _judged(step: int, evidence: StageEvidence, days: float, spec: RolloutSpec = SPEC, **more) -> StageVerdict:
    stage = StageSeen(step, spec.stages[step].kind, START, more.pop("routine", True))
    return decide(spec, more.pop("task", BINARY), stage, evidence, START + days * DAY)


SHADOWS = {
    "equal": (_shadow(8, _paired(6_400)), 8, "advance"),
    "superior": (_shadow(8, _paired(6_400, 0.3)), 8, "advance"),
    "worse": (_shadow(8, _paired(6_400, -0.3)), 8, "stop"),
    "worse-on-the-second-day": (_shadow(2, _paired(920, -0.6)), 2, "stop"),
    "too-early": (_shadow(3, _paired(1_840, 0.3)), 3, "hold"),
    "no-labels": (_shadow(8, None), 8, "hold"),
    "few-labels": (_shadow(8, _paired(300, 0.3)), 8, "hold"),
    "no-labels-at-the-deadline": (_shadow(14, None), 14, "expire"),
    "one-class": (_shadow(14, replace(_paired(900), labels=np.zeros(900))), 14, "expire"),
    "errors": (_shadow(1, None, _arm(920, 120)), 1, "stop"),
    "a-few-errors": (_shadow(8, _paired(6_400), _arm(7_360, 23, "timeout")), 8, "advance"),
    "dies": (_shadow(0.1, None, _arm(92, 92, "died")), 0.1, "stop"),
    "constant": (_shadow(1, None, _arm(920, low=0.0)), 1, "stop"),
    "dropped": (_shadow(1, None, _arm(920, 40, "dropped")), 1, "hold"),
    "slow": (_shadow(8, _paired(6_400), _arm(7_360, slow=3_000)), 8, "advance"),
    "fused": (_shadow(1, None, replace(_arm(920), outcomes={"error": 5, "fused": 915}), fused=1), 1, "stop"),
}


@pytest.mark.parametrize("word", SHADOWS)
def test_a_shadow_is_judged_on_quality(word):
    evidence, days, action = SHADOWS[word]
    assert _judged(SHADOW, evidence, days).action == action


BESIDE = _arm(3 * 874)
CANARIES = {
    "harmless": (_canary(3, BESIDE, _arm(138)), 3, "advance"),
    "margin-not-excluded": (_canary(1, _arm(874), _arm(46)), 1, "hold"),
    "never-excluded": (_canary(4, _arm(4 * 874, 60), _arm(184, 5)), 4, "expire"),
    "too-early": (_canary(0.5, BESIDE, _arm(138)), 0.5, "hold"),
    "few-requests": (_canary(3, _arm(400), _arm(21)), 3, "hold"),
    "errors": (_canary(0.2, _arm(200), _arm(10, 5)), 0.2, "stop"),
    "hangs": (_canary(0.2, _arm(200), _arm(10, 6, "timeout")), 0.2, "stop"),
    "not-finite": (_canary(0.2, _arm(200), _arm(10, 6, "not_finite")), 0.2, "stop"),
    "both-fail-alike": (_canary(3, _arm(2_622, 52), _arm(138, 3)), 3, "hold"),
    "slow": (_canary(1, _arm(874), _arm(46, slow=12)), 1, "stop"),
    "other-answers": (_canary(3, BESIDE, _arm(138, low=0.1)), 3, "stop"),
    "lost-requests": (_canary(3, _arm(2_720), _arm(40)), 3, "stop"),
    "fused": (
        _canary(1, _arm(900), replace(_arm(60), outcomes={"error": 5, "fused": 55}), fused=1),
        1,
        "stop",
    ),
    "one-fuse-of-two": (_canary(3, _arm(2_622, 60), _arm(138, 3), fused=1), 4, "expire"),
}


@pytest.mark.parametrize("word", CANARIES)
def test_a_canary_excludes_harm(word):
    evidence, days, action = CANARIES[word]
    assert _judged(CANARY, evidence, days).action == action


@pytest.mark.parametrize(
    ("failed", "asked", "action"),
    [
        pytest.param(0, 200, "advance", id="harmless"),
        pytest.param(40, 200, "stop", id="harm"),
        pytest.param(0, 20, "hold", id="few-requests"),
    ],
)
def test_blue_green_is_judged_without_a_champion_beside_it(failed, asked, action):
    evidence = StageEvidence(ArmFacts(), _arm(asked, failed), (0, asked), START + 2 * DAY)
    assert _judged(WHOLE, evidence, 2).action == action


@pytest.mark.parametrize(
    ("better", "action"), [pytest.param(0.6, "advance", id="better"), pytest.param(-0.6, "stop", id="worse")]
)
def test_a_canary_guards_the_metric_where_the_spec_says_so(better, action):
    rows = _paired(6_000, better)
    champion = replace(_arm(6_000), labels=rows.labels, answers=rows.champion)
    challenger = replace(_arm(316), labels=rows.labels[:3_000], answers=rows.challenger[:3_000])
    assert _judged(CANARY, _canary(3, champion, challenger), 3, GUARDED).action == action
    assert _judged(CANARY, _canary(3, _arm(6_000), _arm(316)), 3, GUARDED).action == "hold"


@pytest.mark.parametrize(
    ("better", "action"),
    [pytest.param(0.1, "advance", id="smaller-errors"), pytest.param(-0.2, "stop", id="larger-errors")],
)
def test_less_is_better_for_losses(better, action):
    evidence = _shadow(8, _paired(2_000, better, task=REGRESSION))
    assert _judged(SHADOW, evidence, 8, task=REGRESSION).action == action


def test_another_recipe_must_be_superior():
    evidence = _shadow(8, _paired(6_400))
    assert _judged(SHADOW, evidence, 8, routine=True).action == "advance"
    assert _judged(SHADOW, evidence, 8, routine=False).action == "hold"


def test_the_same_answers_are_not_inferior():
    same = _paired(1_000)
    evidence = _shadow(8, replace(same, challenger=same.champion))
    assert _judged(SHADOW, evidence, 8).action == "advance"


def test_a_verdict_names_what_is_missing_and_until_when():
    held = _judged(SHADOW, _shadow(3, None), 3)
    assert held.until == START + 7 * DAY
    assert "0 rows are labelled, 500 are asked for" in held.reason
    assert _judged(SHADOW, _shadow(8, None), 8).until == START + 14 * DAY
    assert {check["name"] for check in held.plain()["checks"]} >= {"time", "requests", "errors", "metric"}


def test_a_log_that_lags_is_waited_for():
    evidence = replace(_canary(3, BESIDE, _arm(138)), complete_until=START + 0.5 * DAY)
    assert _judged(CANARY, evidence, 3).action == "hold"


@given(
    step=st.sampled_from([SHADOW, CANARY, WHOLE]),
    asked=st.tuples(st.integers(0, 3_000), st.integers(0, 3_000)),
    failed=st.tuples(st.integers(0, 50), st.integers(0, 50)),
    days=st.floats(0, 30),
    fused=st.integers(0, 2),
)
@settings(max_examples=40, deadline=None)
def test_every_stage_ends_and_every_verdict_has_a_reason(step, asked, failed, days, fused):
    arms = [_arm(max(each, bad), bad) for each, bad in zip(asked, failed, strict=True)]
    evidence = _canary(days, *arms, fused=fused)
    verdict = _judged(step, evidence, days)
    assert verdict.reason
    assert verdict == _judged(step, evidence, days)
    assert (verdict.action == "hold") == (verdict.until is not None)
    if START + days * DAY >= START + dt.timedelta(seconds=SPEC.stages[step].deadline):
        assert verdict.action != "hold"
    if verdict.action == "advance":
        assert all(check.passed is not False for check in verdict.checks)
        assert days >= SPEC.stages[step].time / 86_400


@given(failed=st.integers(0, 30), more=st.integers(1, 30))
@settings(max_examples=20, deadline=None)
def test_more_failures_never_help(failed, more):
    order = {"advance": 0, "hold": 1, "expire": 1, "stop": 2}
    few, many = (_judged(CANARY, _canary(3, BESIDE, _arm(138, each)), 3).action for each in (failed, failed + more))
    assert order[few] <= order[many]


@pytest.mark.parametrize("difference", [0.0, 0.03], ids=["equal", "slightly-better"])
def test_the_flights_shadow_usually_passes_a_model_that_is_as_good(difference):
    """30 challengers at 920 rows a day, looked at daily from day 7 to 14; noise as between two flights' models."""
    passed = 0
    for seed in range(30):
        rows = _noisy(13 * 920, difference, seed)
        for day in range(7, 15):
            part = Paired(*(each[: 920 * (day - 1)] for each in rows))
            if _judged(SHADOW, _shadow(day, part), day).action == "advance":
                passed += 1
                break
    assert passed >= 20


def _noisy(rows: int, difference: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(rows) < 0.22).astype(float)
    shared = rng.normal(0, 0.9, rows)
    champion, challenger = (0.66 * labels + shared + rng.normal(0, 0.42, rows) for _ in range(2))
    return labels, champion, challenger + difference * labels


@pytest.mark.parametrize(
    ("requests", "margin", "concludes"),
    [
        pytest.param(920, 0.05, [True, True, True], id="flights"),
        pytest.param(920, 0.01, [True, False, True], id="one-point-of-errors"),
        pytest.param(92, 0.05, [False, False, True], id="a-tenth-of-the-traffic"),
        pytest.param(10_000, 0.01, [True, True, True], id="more-traffic"),
    ],
)
def test_the_traffic_says_which_stages_conclude(requests, margin, concludes):
    spec = RolloutSpec.model_validate({"stages": STAGES, "guards": {"errors": margin}})
    found = traffic.estimate(spec, MonitoringSpec(), requests)
    assert [each.concludes for each in found] == concludes
    assert all(each.reason and each.days >= spec.stages[each.step].time / 86_400 for each in found)


def test_a_guarded_metric_needs_its_share_of_labels():
    plain, guarded = (traffic.estimate(spec, MonitoringSpec(), 5_000)[CANARY] for spec in (SPEC, GUARDED))
    assert guarded.days > plain.days
    assert traffic.estimate(GUARDED, MonitoringSpec(), 5_000)[WHOLE].plain()["days"] is None


def test_a_margin_of_nothing_never_concludes():
    spec = RolloutSpec.model_validate({"stages": STAGES, "margin": 0.0})
    assert not traffic.estimate(spec, MonitoringSpec(), 1e6)[SHADOW].concludes


WATCHED = RolloutSpec.model_validate({"watch": "7d"})


@pytest.mark.parametrize(
    ("days", "rows", "better", "action"),
    [
        pytest.param(2, 4000, 0.6, "stop", id="the former was better"),
        pytest.param(2, 4000, 0.0, "hold", id="equal so far"),
        pytest.param(2, 4000, -0.6, "hold", id="the new one is better"),
        pytest.param(7, 6000, 0.0, "advance", id="equal to the end"),
        pytest.param(3, 200, 0.6, "hold", id="too few labels"),
    ],
)
def test_a_watch_ends_with_the_former_champion_only_if_that_proves_better(
    days: float, rows: int, better: float, action: str
) -> None:
    evidence = _shadow(days, _paired(rows, better))
    said = watch(WATCHED, BINARY, START, evidence, START + days * DAY)
    assert said.action == action, said.reason


@pytest.mark.parametrize(
    ("key", "action"),
    [pytest.param(None, "stop", id="requests-are-drawn"), pytest.param("carrier", "advance", id="one-busy-caller")],
)
def test_callers_who_stay_on_an_arm_and_ask_more_than_others_are_no_harm(key, action):
    spec = SPEC.model_copy(update={"key": key})
    busy = _canary(1, _arm(6_000, 120), _arm(2_000, 40))  # 5 % of callers, a quarter of requests, alike in failing
    assert _judged(CANARY, replace(busy, assigned=(285, 15)), 1, spec).action == action
