"""`stackyard plan` tells how long each stage needs, and refuses those that the traffic cannot settle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stackyard.cli.app import app
from stackyard.spec import load
from stackyard_infra.cli import plan as verb
from stackyard_infra.cli import stages

SAMPLE = Path(__file__).parents[1] / "spec" / "sample"
SHADOW = "  - {kind: shadow, time: 7d, deadline: 14d}\n"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "checkout"
    shutil.copytree(SAMPLE, folder)
    monkeypatch.chdir(folder)
    return folder


def _with(checkout: Path, rollout: str) -> Path:
    file = checkout / "pumps" / "project.yaml"
    file.write_text(f"{file.read_text(encoding='utf-8')}rollout:\n{rollout}", encoding="utf-8")
    return checkout / "stacks" / "local.yaml"


def test_a_stage_that_the_traffic_cannot_settle_is_refused_where_it_is_written(checkout: Path):
    canary = "  - {kind: canary, share: 0.05, time: 1d, deadline: 4d}\n"
    spec = load(_with(checkout, f"  traffic: 920\n  stages:\n{SHADOW}{canary}"))
    found = stages.forecast(spec)
    assert [each["concludes"] for each in found] == [True, False]
    (told,) = map(str, stages.refusals(spec, found))
    line = spec.project_folder.joinpath("project.yaml").read_text(encoding="utf-8").splitlines().index(canary[:-1])
    assert told.startswith(f"pumps/project.yaml:{line + 1}: rollout.stages[1]: canary: cannot conclude")


def test_plan_ends_with_3_after_the_table(checkout: Path):
    _with(checkout, "  traffic: 46\n")
    if not any(each.name == "plan" for each in app.registered_commands):
        verb.register(app)
    done = CliRunner().invoke(app, ["plan", "--no-data", "--json"])
    assert done.exit_code == 3
    assert [each["step"] for each in json.loads(done.stdout)["rollout"]] == [0, 1, 2, 3]
    assert "rollout.stages[0]: shadow: cannot conclude" in done.stderr


@pytest.mark.parametrize("rollout", ["  mode: auto\n", "  traffic: 5\n  stages: []\n"], ids=["no-traffic", "direct"])
def test_a_spec_that_expects_no_traffic_or_has_no_stages_is_not_asked_for_time(checkout: Path, rollout: str):
    assert stages.forecast(load(_with(checkout, rollout))) == []
