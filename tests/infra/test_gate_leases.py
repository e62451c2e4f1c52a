"""What people are told of leases: when they end, what would be lost, and that one in the past makes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from stackyard.spec.leases import LeasedClusterSpec
from stackyard_infra.capacity import MIB, local_needs
from stackyard_infra.cli import calendar, leases, plan
from stackyard_infra.provider.evacuation import Answer
from toy import toy_checkout

LENT = "clusters: {lab: {owner: ada, lease: {end: END}}}\n"


@pytest.mark.parametrize(
    ("end", "code"), [pytest.param("2020-01-01", 3, id="over"), pytest.param("2999-01-01", 0, id="far-off")]
)
def test_plan_refuses_a_lease_in_the_past_with_3(end: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    checkout = toy_checkout(tmp_path / "checkout")
    with (checkout / "stacks/local.yaml").open("a") as file:
        file.write(LENT.replace("END", end))
    monkeypatch.chdir(checkout)
    monkeypatch.setattr(plan.capacity, "shortages", lambda *_: [])
    app = typer.Typer()
    plan.register(app)
    done = CliRunner().invoke(app, ["-s", "local", "--no-data"])
    assert done.exit_code == code
    assert ("clusters.lab.lease.end" in done.stderr) == bool(code)
    assert ("cluster lab" in done.stdout) == (not code)
    told = f"lent until {end}, for 30d at the most, saved every 5m; store and workspace are on one disk"
    assert (told in done.stdout) == (not code)


@pytest.mark.parametrize(
    ("lease", "opened", "ends"),
    [
        pytest.param({"end": "2027-02-28", "ttl": None}, "", "2027-03-01T00:00:00+00:00", id="last-day"),
        pytest.param({"end": None, "ttl": 3600.0}, "2027-01-01T00:00:00+00:00", "2027-01-01T01:00:00+00:00", id="ttl"),
        pytest.param(
            {"end": "2027-02-28", "ttl": 86_400.0}, "2027-01-01T00:00:00+00:00", "2027-01-02T00:00:00+00:00", id="first"
        ),
        pytest.param({"end": None, "ttl": 3600.0}, "", None, id="never-opened"),
    ],
)
def test_a_lease_ends_with_its_last_day_or_its_time_to_live(lease: dict[str, Any], opened: str, ends: str | None):
    found = leases.ends({"lease": lease}, opened)
    assert (found and found.isoformat()) == ends


def test_a_refusal_tells_twenty_losses_and_counts_the_rest():
    losses = [{"path": f"data/{n}\n.csv", "reason": "the store is full"} for n in range(25)]
    answer = Answer(False, {"reason": "not everything could be saved", "losses": losses, "more": 7})
    lines = answer.because().splitlines()
    assert answer.count == 32
    assert len(lines) == 1 + 20 + 1
    assert lines[1] == "    data/0\\n.csv: the store is full"
    assert lines[-1] == "    and 12 more"


def test_a_fault_that_says_nothing_is_told_as_one():
    assert Answer(False, {}).because() == "    the evacuation does not say why"


def test_each_leased_cluster_needs_memory_of_its_own(toy_project: Any):
    lent = {"lab": LeasedClusterSpec(owner="ada", workers=3), "bench": LeasedClusterSpec(owner="ada", notebook=True)}
    more = local_needs(toy_project, lent)[len(local_needs(toy_project)) :]
    assert [(need.name, need.memory // MIB) for need in more] == [("cluster lab", 2100), ("cluster bench", 1550)]


@pytest.fixture
def toy_project(tmp_path: Path) -> Any:
    from stackyard.spec import load

    return load(toy_checkout(tmp_path / "toy") / "stacks/local.yaml").project


def test_the_calendar_counts_in_the_largest_unit():
    words = [calendar.about(seconds) for seconds in (0, 59, 60, 3_599, 3_600, 86_399, 86_400, 30 * 86_400)]
    assert words == ["0s", "59s", "1m", "59m", "1h", "23h", "1d", "30d"]
