"""`stackyard lease` and `stackyard reap` with the platform's own leasing and evacuation, over what really runs.

Slow (a supervisor, a saver's database, processes of the platform), and worth it: the two rooms meet only as processes
and documents, so only running both shows that they understand one another.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from guarded import Guarded, wait_until
from stackyard.spec import load
from stackyard.spec.leases import LeasedClusterSpec
from stackyard.spec.models import EnvironmentSpec
from stackyard_infra.cli import calendar, expecting, leases, reaping
from stackyard_infra.manifests import leases as manifests
from stackyard_infra.provider.ceilings import Ceiling, Size, places_folder
from stackyard_infra.provider.leases import EvacuationGateKind, LeasedClusterKind
from stackyard_infra.provider.site import Site
from stackyard_infra.provider.standing import is_over
from stackyard_infra.provider.workspaces import Workspace
from toy import toy_checkout

NOW = dt.datetime(2027, 1, 10, tzinfo=dt.UTC)
ADDRESSES = {"lease-lab": "127.0.0.9"}


def _lease(**fields: Any) -> dict[str, Any]:
    lent = {"lab": LeasedClusterSpec.model_validate({"owner": "ada", **fields})}
    environment = EnvironmentSpec(project="toy", target="local", clusters=lent)
    numbers = {name: 20_000 + n for n, name in enumerate(manifests.ports(lent))}
    return manifests.lease("lab", environment, numbers, ADDRESSES)


class Lab(Guarded):
    """The same, where the CLI finds it, with the platform's own evacuation; opened."""

    def __init__(self, site: dict[str, str], checkout: Path, **fields: Any) -> None:
        super().__init__(site, checkout / "store", _lease(**fields))
        self.clusters, self.gates = LeasedClusterKind(), EvacuationGateKind()
        self.checkout, self.app = checkout, typer.Typer()
        (checkout / "Pulumi.yaml").touch()
        leases.register(self.app)
        self.open()

    def asked(self, *words: str, code: int = 0) -> Any:
        done = CliRunner().invoke(self.app, [*words])
        assert done.exit_code == code, done.output
        return json.loads(done.stdout) if "--json" in words else done.output

    def was_opened(self, ago: dt.timedelta) -> None:
        """As if it had been opened so long ago."""
        file = self.here.folder / "instance.json"
        at = (dt.datetime.now(dt.UTC) - ago).isoformat(timespec="seconds")
        file.write_text(json.dumps(json.loads(file.read_text()) | {"opened": at}))


@pytest.fixture
def lab(site: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Lab]:
    state = tmp_path / ".stackyard/test"
    state.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return lambda **fields: Lab(site | {"state": str(state)}, tmp_path, **fields)


@pytest.mark.slow
def test_a_cluster_past_its_time_is_suspended_extended_resumed_and_extended_no_more(lab: Callable[..., Lab]):
    there = lab(lease={"ttl": "1h", "extend": {"by": "2h"}})
    assert [each["state"] for each in there.asked("reap", "--json")["stacks"][0]["clusters"]] == ["open"]
    there.was_opened(dt.timedelta(minutes=90))
    [looked] = there.asked("reap", "-s", "test", "--json")["stacks"]
    assert [(each["did"], each["state"]) for each in looked["clusters"]] == [(["suspended"], "suspended")]
    assert not there.writers()
    told = there.asked("lease", "-s", "test")
    assert "suspended" in told
    assert "lab: suspended: " in told
    size = there.log.stat().st_size
    assert "it cannot be resumed" in there.asked("lease", "resume", "lab", "-s", "test", code=5)
    assert not there.writers()

    there.asked("lease", "extend", "lab", "--for", "a week", "--because", "the paper", "-s", "test", code=2)
    there.asked("lease", "extend", "lab", "--for", "3h", "--because", "the paper", "-s", "test", code=5)
    there.asked("lease", "extend", "lab", "--for", "2h", "--because", "the paper", "-s", "test")
    there.asked("lease", "resume", "lab", "-s", "test")
    wait_until(lambda: there.log.stat().st_size > size)
    [facts] = there.asked("lease", "--json", "-s", "test")["clusters"]
    assert (facts["state"], facts["ends_by"], facts["may_extend"]) == ("open", "ttl", False)
    assert 5000 < facts["left"] < 5400 + 60
    assert [each["because"] for each in facts["extensions"]] == ["the paper"]
    there.asked("lease", "extend", "lab", "--for", "1h", "--because", "once more", "-s", "test", code=5)
    there.gates.delete(there.gate)


@pytest.mark.slow
@pytest.mark.lifecycle
def test_a_person_suspends_and_resumes_and_reap_leaves_it_so(lab: Callable[..., Lab]):
    there = lab()
    there.asked("lease", "suspend", "lab", "--because", "holidays", "-s", "test")
    assert not there.writers()
    assert there.asked("reap", "--json")["stacks"][0]["clusters"][0]["did"] == []
    assert "lab: suspended: holidays" in there.asked("lease", "-s", "test")
    there.asked("lease", "resume", "lab", "-s", "test")
    assert there.works()
    there.asked("lease", "resume", "nobody", "-s", "test", code=1)
    there.asked("reap", "--yes", code=2)
    there.gates.delete(there.gate)


@pytest.mark.parametrize(
    ("codes", "failed", "code"),
    [
        pytest.param([0, 0], [], 0, id="all-well"),
        pytest.param([0, 4], [], 4, id="somebody-else-is-at-it"),
        pytest.param([4, 1], [], 1, id="one-failed"),
        pytest.param([0], ["the store is away"], 1, id="an-orphan-failed"),
        pytest.param([], [None], 0, id="nothing-lent"),
    ],
)
def test_reap_ends_with_the_worst_that_happened(codes: list[int], failed: list[str | None], code: int):
    told = {"stacks": [{"code": each} for each in codes], "orphans": [{"failed": each} for each in failed]}
    assert reaping._code(told) == code


MACHINE = 'echo "$@" >> asked.txt\ncase $1 in path) echo "{bin}:$PATH";; esac\nexit {code}\n'


@pytest.mark.parametrize(
    ("over", "stacks", "code", "did"),
    [
        pytest.param(True, "far", 0, ["destroyed"], id="over"),
        pytest.param(True, "far", 3, "its destroy ended with 3", id="refused"),
        pytest.param(True, "near", 0, "knows no stack far", id="no-such-stack"),
        pytest.param(True, None, 0, "its state is not reached", id="away"),
        pytest.param(False, "far", 0, None, id="not-over"),
    ],
)
def test_only_a_stack_all_of_whose_clusters_are_over_is_destroyed_and_by_its_own_destroy(
    over: bool, stacks: str | None, code: int, did: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for folder in ("tools", "bin"):
        (tmp_path / folder).mkdir()
    (tmp_path / "Pulumi.yaml").touch()
    (tmp_path / "tools/machine.sh").write_text(MACHINE.format(bin=tmp_path / "bin", code=code))
    says = f'echo \'[{{"name": "{stacks}"}}]\'' if stacks else "exit 1"
    (tmp_path / "bin/pulumi").write_text(f"#!/bin/sh\n{says}\n")
    (tmp_path / "bin/pulumi").chmod(0o700)
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://states")
    for name in ("lab", "bench"):
        here = Workspace(Site("far", "0123abcd", tmp_path / ".stackyard/far", Path("/tmp/sy-0-0123abcd")), name)
        here.adopt()
        here.describe({"store": "store"}, [], {"cluster": name})
    monkeypatch.setattr(reaping, "_over", lambda here: over or here.cluster == "lab")
    found = reaping._destroyed("far", tmp_path)
    asked = (tmp_path / "asked.txt").read_text().splitlines() if (tmp_path / "asked.txt").exists() else []
    if did is None:
        assert (found, asked) == (None, [])
    elif isinstance(did, str):
        assert found is not None
        assert did in found["failed"]
        assert ("down --stack far" in asked) == (code != 0)
    else:
        assert found is not None
        assert (found["did"], asked[-1]) == (did, "down --stack far")


@pytest.mark.parametrize(
    ("ends", "over"),
    [
        pytest.param({}, False, id="no-end-known"),
        pytest.param({"end": "2027-02-01T00:00:00+00:00"}, False, id="ahead"),
        pytest.param({"end": "2027-01-10T00:00:00+00:00"}, True, id="this-moment"),
        pytest.param({"ttl": "2027-01-09T00:00:00+00:00", "end": "2027-02-01T00:00:00+00:00"}, True, id="one-of-two"),
        pytest.param({"budget": "2027-01-09T00:00:00+00:00"}, True, id="money"),
        pytest.param({"hours": "2027-01-09T00:00:00+00:00"}, False, id="hours-are-no-end"),
    ],
)
def test_a_lease_is_over_with_its_first_end(ends: dict[str, str], over: bool):
    assert is_over({"at": NOW.isoformat(), "all_ends": ends}) == over


@pytest.mark.parametrize(
    ("end", "warned"),
    [
        pytest.param(NOW + dt.timedelta(days=10), NOW + dt.timedelta(days=3), id="seven-days-before"),
        pytest.param(NOW + dt.timedelta(days=2), NOW + dt.timedelta(days=1), id="one-day-before"),
        pytest.param(NOW + dt.timedelta(minutes=30), None, id="all-told"),
        pytest.param(None, None, id="no-end"),
    ],
)
def test_the_next_warning_is_the_first_that_lies_ahead(end: dt.datetime | None, warned: dt.datetime | None):
    found = calendar.next_warning(_lease(), end, NOW)
    assert found == (warned and warned.isoformat())


FACTS: dict[str, Any] = {
    "cluster": "lab", "state": "open", "suspended": None, "decision": None, "ends_by": "budget", "next_warning": None,
    "hours": None, "extensions": [], "may_extend": False, "idle": None, "money": None, "store": "here", "late": False,
    "same_disk": False, "troubles": [],
}  # fmt: skip
SIGNALS = [
    {"name": "kernels", "known": True, "busy": False, "used": "2027-01-09T08:00:00+00:00", "because": "none is busy"}
]


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        pytest.param(
            {"suspended": {"because": "nobody used it", "whole": False}},
            "suspended: nobody used it; not everything of it is saved",
            id="suspended",
        ),
        pytest.param(
            {"decision": {"wants": "suspended", "because": "its time to live is over"}},
            "about to be suspended: its time to live is over",
            id="about-to-be",
        ),
        pytest.param(
            {"next_warning": "2027-01-09T00:00:00+00:00"},
            "it ends by its budget; its owner is warned at 2027-01-09 00:00 UTC",
            id="warning",
        ),
        pytest.param(
            {"hours": {"days": ["mon", "tue"], "span": "07:00-20:00", "timezone": "Europe/Berlin"}},
            "runs mon, tue 07:00-20:00 Europe/Berlin",
            id="hours",
        ),
        pytest.param(
            {"extensions": [{"seconds": 604_800.0, "by": "ada", "because": "the paper"}]},
            "extended by 7d (ada: the paper)",
            id="extended",
        ),
        pytest.param(
            {"idle": {"after": 7200.0, "signals": SIGNALS}},
            "kernels: idle, last used 2027-01-09 08:00; none is busy",
            id="signal",
        ),
        pytest.param({"idle": {"after": 7200.0}}, "suspended when nobody uses it for 2h", id="idle-limit"),
        pytest.param({"money": {"cost": 1.234, "limit": 5.0, "hours": 2.5}}, "cost 1.23 of 5 in 2.5 h", id="money"),
        pytest.param({"troubles": ["seen.json makes no sense"]}, "seen.json makes no sense", id="trouble"),
    ],
)
def test_the_calendar_has_a_sentence_for_what_is_worth_one(facts: dict[str, Any], sentence: str):
    assert sentence in list(calendar.sentences(FACTS | facts))


def test_plan_says_hours_money_and_what_the_ceiling_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    checkout = toy_checkout(tmp_path / "toy")
    with (checkout / "stacks/local.yaml").open("a") as file:
        file.write(
            "ceiling: {clusters: 2, cpus: 16}\n"
            "clusters: {lab: {owner: ada, workers: 2, cpus: 4, lease: {hours: {span: '07:00-20:00'}},\n"
            "  budget: {money: 50, hourly_price: 0.5}}}\n"
        )
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        Ceiling({}, places_folder()).admit(f"ffffffff-{name}", tmp_path / name, "A=b", Size(1, 1, 0))
    spec = load(checkout / "stacks/local.yaml")
    expecting.show(Console(highlight=False, width=300), expecting.expected(spec), expecting.ceiling(spec))
    told = capsys.readouterr().out
    assert "mon, tue, wed, thu, fri 07:00-20:00 UTC, for 50 at the most (0.5 an hour), saved every 5m" in told
    assert "ceiling: clusters 1 here, 2 elsewhere, at most 2; cpus 8 here, 2 elsewhere, at most 16; too many" in told
