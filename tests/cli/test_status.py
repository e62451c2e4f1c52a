"""What `stackyard status` calls unhealthy, and that it can be shown."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stackyard.cli import loop, observe, status
from stackyard.cli.stack import StackCard

HEALTHY: dict[str, Any] = {
    "stack": "local",
    "stack_id": "0123abcd",
    "addresses": {"predict": "http://127.0.0.1:1/predict"},
    "processes": [
        {"name": "controller", "state": "running", "pid": 1, "seconds": 3, "memory_bytes": 1 << 20, "log": "c.log"},
        {"name": "serving", "state": "running", "pid": 2, "seconds": 3, "memory_bytes": 1 << 20, "log": "s.log"},
    ],
    "champion": {
        "model": "m",
        "number": 1,
        "champion": "ab" * 32,
        "created": "2026-01-01T00:00:00+00:00",
        "metrics": {"test": {"auc": 0.71}},
    },
    "replicas": [{"port": 7000, "ready": True}, {"port": 7001, "ready": True}],
    "traffic": {"total": 9.0, "per_second": 1.5, "p50": 0.002, "p99": float("inf"), "errors": 0.0},
    "runs": [{"run_id": "r", "number": 1, "state": "succeeded"}],
    "decisions": [{"kind": "Wait", "reason": "release 1 is live", "since": "t", "last_seen": "t"}],
}


def _with(**changes: Any) -> dict[str, Any]:
    return {**HEALTHY, **changes}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(HEALTHY, [], id="all well"),
        pytest.param(_with(champion=None, replicas=[]), [], id="still training"),
        pytest.param(
            _with(processes=[{"name": "mlflow", "state": "down", "pid": None, "log": "m.log"}]),
            [("process mlflow is down", "m.log")],
            id="process down",
        ),
        pytest.param(
            _with(replicas=[{"port": 7000, "ready": False}]),
            [("a champion is released and no replica is ready", "s.log")],
            id="no replica ready",
        ),
        pytest.param(
            _with(replicas=[{"port": 7000, "ready": True, "load_failure": "release 2: digest differs"}]),
            [("replica 7000: release 2: digest differs", "s.log")],
            id="replica refused a bundle",
        ),
        pytest.param(
            _with(champion={"error": "release is signed by a key that is not trusted here"}, replicas=[]),
            [
                ("release is signed by a key that is not trusted here", "c.log"),
                ("a champion is released and no replica is ready", "s.log"),
            ],
            id="release not trusted",
        ),
        pytest.param(
            _with(champion=None, decisions=[{"kind": "Failed", "reason": "a symbolic link", "since": "t"}]),
            [("the controller: a symbolic link", "c.log")],
            id="controller cannot look",
        ),
        pytest.param(
            _with(
                decisions=[
                    {"topic": "release", "kind": "Wait", "reason": "all is well", "since": "t"},
                    {"topic": "controller", "kind": "Looked", "reason": "a whole step was made", "since": "t"},
                    {"topic": "controller", "kind": "Failed", "reason": "a symbolic link", "since": "t"},
                ]
            ),
            [],
            id="controller could not look before",
        ),
        pytest.param(
            _with(champion=None, runs=[{"run_id": "r", "number": 3, "state": "failed", "reason": "bad data"}]),
            [("run 3 failed: bad data", "")],
            id="training failed",
        ),
    ],
)
def test_what_is_unhealthy_is_named_with_its_log(facts: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert [(p["what"], p["log"]) for p in status.problems(facts)] == expected
    console = Console(width=200, record=True, file=None)
    with console.capture() as shown:
        console.print(status.render({**facts, "problems": status.problems(facts), "healthy": not expected}))
    assert all(what in shown.get() for what, _ in expected)
    json.dumps(facts)


def test_waiting_says_what_is_wrong_with_a_release_that_nobody_can_trust() -> None:
    assert status._headline({"error": "bad signature"}, [], []) == "bad signature"


def test_a_store_that_is_away_is_told_and_not_made_anew(tmp_path: Path) -> None:
    away = tmp_path / "store"
    card = StackCard.model_construct(store=str(away), model="m", public_keys=[])
    assert observe.champion(card) == {"error": f"the artifact store {away} is away"}
    assert observe.progress(card, "m-0001") == {"state": "unknown"}
    assert not away.exists()


LOOP: dict[str, Any] = {
    "pulse": {"at": "2013-05-01T00:00:00+00:00", "settled": True, "why": "all is well"},
    "verdicts": {
        "performance": {"state": "alarm", "reason": "auc 0.66 is below 0.68", "since": "2013-04-20T00:00:00+00:00"},
        "drift": {"state": "not_enough_data", "reason": "120 of 500 rows", "since": None},
        "slices": [
            {"column": "carrier", "value": "DL", "state": "alarm", "reason": "auc 0.55"},
            {"column": "carrier", "value": "OO", "state": "not_enough_data", "reason": "32 rows"},
        ],
        "quality": [{"day": "2013-04-30", "findings": [{"code": "stuck", "reason": "temp is 20.0 in all rows"}]}],
        "quarantined": ["2013-04-30"],
        "labelled_until": "2013-04-30",
    },
    "stage": {
        "key": "5@2013-05-01T00:00:00+00:00",
        "action": "hold",
        "reason": "46 of 100 requests",
        "until": "2013-05-04T00:00:00+00:00",
        "checks": [{"name": "errors", "passed": None, "value": 0.0, "limit": 0.05, "reason": "not settled"}],
    },
    "alerts": {
        "open": {"d": {"what": "distance drifts", "since": "2013-04-20T00:00:00+00:00", "todo": "look at it"}},
        "failures": {"TEAM": {"why": "ConnectError"}},
    },
}
ROLLING = {
    **HEALTHY["champion"],
    "number": 5,
    "stage": "canary",
    "step": 1,
    "candidate": "m-6",
    "arms": [{"share": 0.05}],
}
DECIDED = [{"topic": "training", "kind": "Wait", "reason": "cooldown until 2013-05-03", "since": "t", "last_seen": "t"}]


def test_the_loop_shows_verdicts_quarantine_rollout_retraining_and_alerts() -> None:
    found = loop.facts(LOOP, ROLLING, DECIDED)
    assert found is not None
    console = Console(record=True, width=200)
    console.print(loop.render(found))
    page = console.export_text()
    for said in (
        "auc 0.66 is below 0.68",
        "ALARM",
        "120 of 500 rows",
        "carrier DL",
        "1 of 2 are not judged",
        "2013-04-30  temp is 20.0 in all rows",
        "m-6 as canary 5%, stage 2",
        "46 of 100 requests (until 2013-05-04T00:00:00+00:00)",
        "open   errors: not settled",
        "cooldown until 2013-05-03",
        "distance drifts, since 2013-04-20T00:00; look at it",
    ):
        assert said in page
    assert loop.problems(found) == [{"what": "TEAM takes no messages: ConnectError", "log": ""}]
    json.dumps(found)


@pytest.mark.parametrize(
    "notes",
    [
        {},
        {"verdicts": None},
        {"verdicts": []},
        {"verdicts": {"quality": [None], "slices": [None], "drift": 3}, "alerts": 1},
    ],
    ids=["nothing", "null", "a list", "of other types"],
)
def test_a_loop_that_noted_little_or_nonsense_is_shown_all_the_same(notes: dict[str, Any]) -> None:
    found = loop.facts(notes, None, [])
    Console(quiet=True).print("" if found is None else loop.render(found))
    assert loop.problems(found) == []


def test_a_stage_that_was_judged_for_another_release_is_not_shown() -> None:
    found = loop.facts({**LOOP, "stage": {**LOOP["stage"], "key": "4@t"}}, ROLLING, [])
    assert found is not None
    assert found["rollout"]["waits_for"] == ""
