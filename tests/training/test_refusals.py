"""A run that cannot succeed says why in one line, as its result, and starts no cluster."""

from __future__ import annotations

from typing import Any

import pytest

from stackyard.spec import plain
from stackyard.spec.models import ProjectSpec
from stackyard.store import layout


def _changed(runs: Any, section: str, **fields: Any) -> ProjectSpec:
    dumped = plain.dump(runs.project())
    dumped[section] = {**dumped[section], **fields}
    return plain.load(ProjectSpec, dumped)


def _narrow(runs: Any) -> ProjectSpec:
    dumped = plain.dump(runs.project())
    dumped["data"]["columns"]["distance"]["maximum"] = 50
    return plain.load(ProjectSpec, dumped)


@pytest.mark.slow  # earns: what a person sees of a failed run, end to end; two processes each, no Ray
@pytest.mark.parametrize(
    ("name", "told"),
    [
        pytest.param("data", "distance", id="data-that-breaks-its-promise"),
        pytest.param("features", "toy_features.py:13: RuntimeError: no such thing", id="a-mistake-in-the-project"),
    ],
)
def test_a_failed_run_has_one_clear_reason_and_no_traceback(runs: Any, name: str, told: str) -> None:
    broken = _narrow(runs) if name == "data" else _changed(runs, "features", function="toy_features:broken")
    process = runs.start(f"refused-{name}", broken)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert "Traceback" not in output
    assert "cluster" not in output
    result = runs.result(f"refused-{name}")
    assert result["status"] == "failed"
    assert told in result["reason"]
    assert "\n" not in result["reason"]
    assert b"Traceback" in runs.store.read(layout.run(f"refused-{name}", "failure.log"))
    assert runs.left_behind(f"refused-{name}") == []


@pytest.mark.slow  # earns: that the deadline holds whatever the work is doing
def test_a_run_past_its_deadline_has_failed(runs: Any) -> None:
    process = runs.start("late", runs.project(deadline=0.5))
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert "training.deadline" in runs.result("late")["reason"]
    assert runs.left_behind("late") == []


def test_what_is_no_intent_is_refused(runs: Any, capfd: pytest.CaptureFixture[str]) -> None:
    from stackyard.training import run

    path = runs.folder / "broken.json"
    path.write_text('{"run_id": "../x"}')
    assert run.main([str(path)]) == run.UNREADABLE
    assert "is not an intent" in capfd.readouterr().err
