"""What `stackyard status` calls unhealthy, and that it can be shown."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stackyard.cli import observe, status
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
