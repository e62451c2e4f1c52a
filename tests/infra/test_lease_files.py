"""What lies beside a workspace for those who end clusters: they ask neither the program nor Pulumi."""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from stackyard.clock import FileClock
from stackyard.spec import SpecError, check_leases, load
from stackyard.spec.leases import LeasedClusterSpec
from stackyard.spec.models import EnvironmentSpec
from stackyard_infra.manifests import leases
from stackyard_infra.manifests.places import Places
from stackyard_infra.moment import extended, now
from stackyard_infra.provider.backends import backend_url
from stackyard_infra.provider.site import Site
from stackyard_infra.provider.workspaces import Workspace
from toy import toy_checkout

ADDRESSES = {"lease-lab": "127.0.0.9"}


def _lease(**fields: Any) -> dict[str, Any]:
    lent = {"lab": LeasedClusterSpec(owner="ada", **fields)}
    environment = EnvironmentSpec(project="toy", target="local", clusters=lent)
    numbers = {name: 20_000 + n for n, name in enumerate(leases.ports(lent))}
    return leases.lease("lab", environment, numbers, ADDRESSES, "clock")


def test_a_lease_says_who_where_until_when_and_how_it_is_suspended(
    tmp_path: Path, state_home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://states")
    state = tmp_path / "checkout/.stackyard/lab"
    here = Workspace(Site("lab", "0123abcd", state, Path("/tmp/sy-0-0123abcd")), "lab")
    here.adopt()
    here.describe({"store": "store"}, [], _lease(notebook=True, budget={"money": 5, "hourly_price": 0.5}))
    told = json.loads((here.folder / "lease.json").read_text())
    act = [sys.executable, "-P", "-m", "stackyard_infra.suspending"]
    assert told == {
        **_lease(notebook=True, budget={"money": 5, "hourly_price": 0.5}),
        "stack": "lab",
        "stack_id": "0123abcd",
        "backend": "s3://states",
        "checkout": str(tmp_path / "checkout"),
        "runtime": "/tmp/sy-0-0123abcd",
        "ray_token": str(here.folder / "ray-token"),
        "notebook_token": str(here.folder / "notebook-token"),
        "tag": "STACKYARD_CLUSTER=0123abcd/lab",
        "places": str(state_home / "stackyard/leases"),
        "suspend": [*act, "suspend", str(here.folder)],
        "resume": [*act, "resume", str(here.folder)],
    }


def test_what_the_program_says_of_a_lease_is_plain_and_complete():
    told = _lease(notebook=True)
    assert {"cluster", "every", "workers", "cpus", "gpus", "lease", "owner", "tell", "budget", "rehearsal"} < set(told)
    assert set(told["lease"]) == {"end", "ttl", "idle", "grace", "hours", "extend", "warn"}
    assert (told["ray_address"], told["dashboard"]) == ("127.0.0.9:20000", "http://127.0.0.9:20001")
    assert told["notebook"].startswith("http://127.0.0.1:")
    assert json.loads(json.dumps(told)) == told
    assert told["ceiling"] == {"clusters": 8, "cpus": None, "gpus": None}
    assert told["clock"] == "clock"
    assert _lease()["notebook"] is None


def test_where_a_place_is_kept_does_not_change_with_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    here = Workspace(Site("lab", "0123abcd", tmp_path / "checkout/.stackyard/lab", Path("/tmp/sy-0-0123abcd")), "lab")
    here.adopt()
    here.describe({"store": "store"}, [], _lease())
    first = here.lease()["places"]
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    here.describe({"store": "store"}, [], _lease())
    assert here.lease()["places"] == first


@pytest.mark.parametrize(
    ("environment", "project", "url"),
    [
        pytest.param({"PULUMI_BACKEND_URL": "file:///here"}, "backend: {url: s3://there}", "file:///here", id="told"),
        pytest.param({}, "backend: {url: s3://there}", "s3://there", id="of-the-project"),
        pytest.param({}, "name: stackyard", None, id="only-a-login-knows"),
        pytest.param({}, "backend: [", None, id="unreadable"),
        pytest.param({}, None, None, id="no-project"),
    ],
)
def test_a_backend_is_known_where_it_is_written(
    environment: dict[str, str], project: str | None, url: str | None, tmp_path: Path
):
    if project is not None:
        (tmp_path / "Pulumi.yaml").write_text(project)
    assert backend_url(tmp_path, environment) == url


def test_an_end_that_was_put_off_is_not_over(tmp_path: Path):
    checkout = toy_checkout(tmp_path / "toy")
    with (checkout / "stacks/local.yaml").open("a") as file:
        file.write("clusters: {lab: {owner: ada, lease: {end: 2027-01-10}}}\n")
    spec, after = load(checkout / "stacks/local.yaml"), dt.datetime(2027, 1, 12, tzinfo=dt.UTC)
    folder = leases.folder(Places.of(spec), "lab")
    folder.mkdir(parents=True)
    (folder / "instance.json").write_text('{"instance": "i"}')
    extension = {"at": after.isoformat(), "by": "ada", "seconds": 2 * 86_400.0, "because": "the paper"}
    for instance, more in (("another", 0.0), ("i", 2 * 86_400.0)):
        (folder / "extensions.json").write_text(json.dumps({"instance": instance, "extensions": [extension]}))
        assert extended(spec) == {"lab": more}
    check_leases(spec, after, extended(spec))
    with pytest.raises(SpecError, match=r"clusters\.lab\.lease\.end"):
        check_leases(spec, after + dt.timedelta(days=1), extended(spec))


def test_a_virtual_clock_that_says_up_to_when_all_is_known_is_read_by_its_present(tmp_path: Path):
    checkout = toy_checkout(tmp_path / "toy")
    with (checkout / "stacks/local.yaml").open("a") as file:
        file.write("clock: virtual\n")
    spec = load(checkout / "stacks/local.yaml")
    clock = Path(Places.of(spec).clock)
    clock.parent.mkdir(parents=True, exist_ok=True)
    at, known = dt.datetime(2013, 4, 2, 12, tzinfo=dt.UTC), dt.datetime(2013, 4, 1, tzinfo=dt.UTC)
    FileClock(clock).set(at, known)
    here = Workspace(Site("lab", "0123abcd", tmp_path / "lab", Path("/tmp/sy-0-0123abcd")), "lab")
    here.adopt()
    here.describe({"store": "store"}, [], {"clock": str(clock)})
    assert now(spec) == here.now() == at
