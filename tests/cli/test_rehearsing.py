"""`stackyard rehearse` says which cluster is meant, what was missed, and ends with the code for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stackyard.cli import rehearse as verb
from stackyard.cli.failures import Failure
from stackyard.rehearsals.cluster import Cluster
from stackyard.rehearsals.judging import Measured, judge
from stackyard.rehearsals.running import BusyError, RehearsalError, Rehearsed
from stackyard.spec.leases import RehearsalSpec

Says = Callable[..., tuple[int, str, str]]


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Says:
    """`stackyard rehearse ARGUMENTS` in a checkout with the cluster lab: exit code, standard output, the reason."""
    from stackyard.cli.leased import app

    monkeypatch.chdir(tmp_path)
    (tmp_path / "Pulumi.yaml").touch()
    _lend(tmp_path, "lab")

    def run(*arguments: str) -> tuple[int, str, str]:
        code, reason = 0, ""
        try:
            app(["rehearse", *arguments], standalone_mode=False)
        except Failure as failure:
            code, reason = failure.code, str(failure)
        return code, capsys.readouterr().out, reason

    return run


def _lend(checkout: Path, name: str) -> Path:
    folder = checkout / ".stackyard/local/leases" / name
    folder.mkdir(parents=True)
    settings = {
        "stack": "local", "stack_id": "s1", "cluster": name, "instance": "i", "generation": 1, "workspace": "/w",
        "store": "/s", "receipt_key": "/k", "trusted_keys": [], "state": "/st",
    }  # fmt: skip
    (folder / "evacuation.json").write_text(json.dumps(settings))
    (folder / "instance.json").write_text(json.dumps({"instance": "i", "generation": 1, "sealed": False}))
    rehearsal = {"steps_lost": 5, "resume": 60, "at_risk": None}
    (folder / "lease.json").write_text(json.dumps({"cluster": name, "rehearsal": rehearsal}))
    return folder


def _plays(monkeypatch: pytest.MonkeyPatch, lost: int | Exception) -> list[tuple[str, bool]]:
    """A rehearsal that costs so many steps. Returns the clusters that it was asked for, and whether with --yes."""
    asked = list[tuple[str, bool]]()

    def played(cluster: Cluster, scenario: Any, objective: RehearsalSpec, *, yes: bool, say: Any) -> Rehearsed:
        asked.append((cluster.settings.cluster, yes))
        if isinstance(lost, Exception):
            raise lost
        measured = Measured(100, lost, 12.0, 1000, 0)
        return Rehearsed(scenario, "2026-01-01T00:00:00+00:00", measured, judge(measured, objective), {"jobs": 2})

    monkeypatch.setattr(verb, "rehearse", played)
    return asked


def test_what_was_held_is_a_table_or_one_object(says: Says, monkeypatch: pytest.MonkeyPatch):
    asked = _plays(monkeypatch, 5)
    code, out, _ = says("preemption", "--yes")
    assert code == 0 and "steps lost" in out and "at most 5" in out and "MISSED" not in out
    code, out, _ = says("preemption", "--json")
    told = json.loads(out)
    assert (code, told["held"], told["cluster"], told["measured"]["steps_lost"]) == (0, True, "lab", 5)
    assert asked == [("lab", True), ("lab", False)]


def test_what_was_missed_is_named_with_its_limit(says: Says, monkeypatch: pytest.MonkeyPatch):
    _plays(monkeypatch, 6)
    code, out, reason = says("head-loss")
    assert (code, "MISSED" in out) == (1, True)
    assert reason == "head-loss missed clusters.lab.rehearsal: steps lost 6 (at most 5)"


def _suspended(folder: Path) -> None:
    (folder / "suspended.json").write_text("{}")


def _sealed(folder: Path) -> None:
    (folder / "instance.json").write_text(json.dumps({"instance": "i", "generation": 1, "sealed": True}))


def _two(folder: Path) -> None:
    _lend(folder.parents[3], "bench")


def _unknown(folder: Path) -> None:
    (folder / "lease.json").unlink()


REFUSED: dict[str, tuple[Callable[[Path], None], tuple[str, ...], int, str]] = {
    "no-such-fault": (lambda _: None, ("flood",), 2, "there are preemption, head-loss, store-outage, lease-end"),
    "two-clusters": (_two, ("preemption",), 2, "--cluster bench"),
    "no-such-cluster": (lambda _: None, ("preemption", "--cluster", "x"), 1, "has no leased cluster x; it has lab"),
    "suspended": (_suspended, ("preemption",), 1, "stackyard lease resume lab"),
    "sealed": (_sealed, ("preemption",), 1, "is sealed"),
    "nothing-known": (_unknown, ("preemption", "--cluster", "lab"), 1, "is not known"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_rehearsed_is_one_line(says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str):
    make, arguments, want, words = REFUSED[case]
    asked = _plays(monkeypatch, 0)
    make(tmp_path / ".stackyard/local/leases/lab")
    code, _, reason = says(*arguments)
    assert (code, asked, "\n" in reason) == (want, [], False)
    assert words in reason


@pytest.mark.parametrize(
    ("error", "want"),
    [pytest.param(BusyError("somebody"), 4, id="busy"), pytest.param(RehearsalError("Ray"), 1, id="failed")],
)
def test_the_exit_code_tells_busy_from_failed(says: Says, monkeypatch: pytest.MonkeyPatch, error: Exception, want: int):
    _plays(monkeypatch, error)
    assert says("preemption")[::2] == (want, str(error))


def test_a_cluster_that_a_killed_rehearsal_suspended_may_be_rehearsed_again(
    says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked, folder = _plays(monkeypatch, 0), tmp_path / ".stackyard/local/leases/lab"
    _suspended(folder)
    (folder / "rehearsing.json").write_text("{}")
    assert says("preemption")[0] == 0 and asked
