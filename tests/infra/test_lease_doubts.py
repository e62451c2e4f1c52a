"""Clusters of which not all is as it should be: copied, half known, opened meanwhile, running, with a disk inside.

Nothing of anybody's is ended or taken away on a guess.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import typer
from typer.testing import CliRunner

from guarded import CERTIFY
from stackyard_infra import suspending
from stackyard_infra.cli import leases, orphans, reaping
from stackyard_infra.cli.checkouts import workspaces
from stackyard_infra.provider import ledgers, site
from stackyard_infra.provider.ceilings import Ceiling, places_folder
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.leases import LeasedClusterKind
from stackyard_infra.provider.places import SiteKind
from stackyard_infra.provider.site import Site
from stackyard_infra.provider.workspaces import Workspace

ANSWERS = """
import json, pathlib, sys
settings = json.loads(pathlib.Path(sys.argv[2]).read_text())
late = pathlib.Path(settings["workspace"]) / "late.txt"
saved = not late.exists()
late.touch()
print(json.dumps({"receipt": saved, "reason": "late.txt is newer than the receipt"}))
sys.exit(0 if saved else 1)
"""
"""An evacuation whose receipt holds, and while it is looked at, somebody writes."""


class Lone:
    """A checkout with an open cluster `lab` of the stack `far` and one process of it, held up by no supervisor."""

    def __init__(self, folder: Path, stack_id: str, runtime: Path) -> None:
        folder.mkdir()
        (folder / "Pulumi.yaml").touch()
        self.folder = folder
        self.here = Workspace(Site("far", stack_id, folder / ".stackyard/far", runtime), "lab")
        self.here.adopt()
        self.here.unseal()
        self.here.describe({"store": str(folder / "store")}, [], {"cluster": "lab"})
        name, _, value = self.here.tag.partition("=")
        (self.here.path / "work.txt").write_text("work")
        held = f"import time\nheld = open({str(self.here.path / 'work.txt')!r})\ntime.sleep(60)"
        self.process = subprocess.Popen([sys.executable, "-c", held], env={name: value})

    def works(self) -> bool:
        return self.process.poll() is None

    def state(self) -> dict[str, Any]:
        place = self.here.site
        told = {"stack": place.stack, "stack_id": place.stack_id, "state": str(place.state)}
        record = self.here.record()
        assert record is not None
        told |= {"runtime": str(place.runtime)}
        return {"site": told, "cluster": "lab", "instance": record.instance, "store": str(self.folder / "store")}


@pytest.fixture
def lone(site: dict[str, str], tmp_path: Path) -> Iterator[Lone]:
    made = Lone(tmp_path / "first", site["stack_id"], Path(site["runtime"]))
    yield made
    made.process.kill()
    made.process.wait()


def _asked(*words: str) -> tuple[int, str]:
    app = typer.Typer()
    leases.register(app)
    done = CliRunner().invoke(app, [*words])
    return done.exit_code, done.output


def test_in_a_copied_checkout_nobody_ends_the_other_ones_processes(
    lone: Lone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    copy = tmp_path / "copy"
    shutil.copytree(lone.folder, copy)
    monkeypatch.chdir(copy)
    for verb in (["lease"], ["evacuate", "lab"], ["lease", "suspend", "lab", "--because", "x"], ["reap"]):
        code, said = _asked(*verb, "-s", "far")
        assert (code, f"is a copy of {lone.here.folder}" in said) == (1, True), said
    [told] = orphans.Orphans(copy, exists=lambda *_: False, running=list).reap(remove=True)
    assert "is a copy of" in told["failed"]
    assert lone.works()
    shutil.move(lone.folder, tmp_path / "elsewhere")
    assert [here.cluster for here in workspaces("far", copy)] == ["lab"], "a moved checkout is no copy"


def test_after_a_move_of_the_checkout_lease_and_settings_name_where_it_lies(lone: Lone, tmp_path: Path):
    state = lone.here.site.state
    lone.here.describe({"store": "store"}, [], {"cluster": "lab", "clock": str(state / "clock"), "owner": "ada"})
    before = lone.here.lease() | {"backend": "file:///of/up", "places": "/of/up"}
    (lone.here.folder / "lease.json").write_text(json.dumps(before))
    shutil.move(lone.folder, tmp_path / "elsewhere")
    [here] = workspaces("far", tmp_path / "elsewhere")
    found, folder = here.lease(), str(here.folder)
    assert found.keys() == before.keys()
    assert str(lone.folder) not in json.dumps(found) + here.settings.read_text()
    assert (found["suspend"][-2:], found["ray_token"]) == (["suspend", folder], f"{folder}/ray-token")
    assert (found["backend"], found["places"], found["clock"]) == (
        "file:///of/up",
        "/of/up",
        f"{here.site.state}/clock",
    )
    assert json.loads(here.settings.read_text())["workspace"] == f"{folder}/workspace"
    record = here.record()
    assert record is not None
    assert (record.generation, record.sealed) == (1, False)


def test_one_stack_that_cannot_be_looked_at_keeps_reap_from_no_other(
    lone: Lone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    copy = tmp_path / "copy"
    shutil.copytree(lone.folder, copy)
    (copy / ".stackyard/near/leases/bench").mkdir(parents=True)
    monkeypatch.chdir(copy)
    code, said = _asked("reap", "--destroy", "--json")
    told = json.loads(said)
    assert code == 1
    assert [(each["stack"], each["code"]) for each in told["stacks"]] == [("far", 1), ("near", 0)]
    assert [each["did"] for each in told["destroyed"]] == [[]]


def test_a_look_makes_no_other_instance_of_a_cluster_whose_own_was_lost(lone: Lone, monkeypatch: pytest.MonkeyPatch):
    (lone.here.folder / "instance.json").unlink()
    monkeypatch.chdir(lone.folder)
    code, said = _asked("lease", "-s", "far", "--json")
    assert (code, json.loads(said)["clusters"][0]["unsaved"]) == (0, None)
    code, said = _asked("evacuate", "lab", "-s", "far")
    assert (code, "`up` adopts it" in said) == (1, True)
    assert lone.here.record() is None
    assert lone.works()


def test_what_was_opened_again_is_not_ended_by_who_wanted_its_earlier_life_suspended(lone: Lone):
    with pytest.raises(Refusal, match="is open, and nothing says that it is suspended"):
        suspending.suspend(lone.here)
    assert lone.works()
    record = lone.here.record()
    assert record is not None
    noted = {"instance": record.instance, "generation": record.generation, "because": "enough"}
    (lone.here.folder / "suspended.json").write_text(json.dumps(noted))
    suspending.suspend(lone.here)
    assert not lone.works()


def test_what_still_ran_while_its_receipt_was_looked_at_needs_another_look(lone: Lone):
    kind = LeasedClusterKind(evacuation=[sys.executable, "-c", ANSWERS], certificates=CERTIFY)
    with pytest.raises(Refusal, match=r"late\.txt is newer than the receipt"):
        kind.delete(lone.state())
    assert (lone.here.path / "late.txt").exists()
    assert not lone.works(), "from here on nothing is written"


@pytest.mark.parametrize(
    ("inside", "kept"),
    [
        pytest.param("/workspace/my\\040data", True, id="below"),
        pytest.param("/workspace", True, id="itself"),
        pytest.param("-and-more/workspace", False, id="elsewhere"),
    ],
)
def test_a_disk_that_is_mounted_in_a_workspace_is_not_emptied(
    inside: str, kept: bool, lone: Lone, monkeypatch: pytest.MonkeyPatch
):
    lone.process.kill()
    lone.process.wait()
    mounts = lone.folder / "mountinfo"
    mounts.write_text(f"36 35 98:0 / {lone.here.folder}{inside} rw,noatime - ext4 /dev/sdb1 rw\n")
    monkeypatch.setattr(site, "MOUNTS", mounts)
    told = pytest.raises(Refusal, match="is another disk, mounted there: unmount it")
    with told if kept else contextlib.nullcontext():
        lone.here.remove()
    assert (lone.here.path / "work.txt").exists() == kept


def test_a_full_disk_holds_up_nobodys_end(lone: Lone, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    def held(processes: Iterable[psutil.Process]) -> set[Path]:
        return {lone.here.path / "work.txt"} if lone.process.pid in {each.pid for each in processes} else set()

    monkeypatch.setattr(ledgers.tagged, "shared_memory", held)
    monkeypatch.setattr(ledgers, "write_plain", full)
    lone.here.end()
    assert not lone.works()


def test_a_process_that_says_anything_of_itself_keeps_no_orphan_from_being_found(lone: Lone):
    odd = ("STACKYARD_CLUSTER=0/odd", Path("/dev/null/odd/workspace"))
    told = orphans.Orphans(lone.folder, exists=lambda *_: True, running=lambda: [odd]).reap(remove=False)
    assert sorted(each["found"] for each in told) == ["stack exists", "unknown"]


@pytest.mark.parametrize("doubts", [pytest.param([], id="sure"), pytest.param(["the clock was set"], id="doubt")])
def test_a_clock_that_was_set_destroys_nothing(doubts: list[str], lone: Lone, monkeypatch: pytest.MonkeyPatch):
    over = dt.datetime(2027, 1, 10, tzinfo=dt.UTC).isoformat()
    told = {"at": "2027-02-01T00:00:00+00:00", "all_ends": {"ttl": over}, "troubles": doubts}
    monkeypatch.setattr(reaping.standing, "standing", lambda _: told)
    monkeypatch.setattr(reaping.Backends, "exists", lambda *_: False)
    found = reaping._destroyed("far", lone.folder)
    assert found is not None
    assert ("is in doubt, so nothing is destroyed: the clock was set" in found["failed"]) == bool(doubts)
    assert ("knows no stack far" in found["failed"]) == (not doubts)


def test_a_cluster_that_the_state_forgot_leaves_its_work_and_no_place_taken(lone: Lone):
    lone.here.admit({"workers": 1})
    for place in places_folder().glob("*.json"):
        place.write_text(json.dumps(json.loads(place.read_text()) | {"by": [2**22 + 1, 1]}))  # its `up` ended
    assert Ceiling({}, places_folder()).used()["clusters"] == 1
    lone.process.kill()
    lone.process.wait()
    told = {"certificate": "far-0001", "verdict": "clean", "sentence": "clean", "lines": [], "away": []}
    SiteKind(certificates=["/bin/sh", "-c", f"echo '{json.dumps(told)}'"]).delete(lone.state())
    assert (lone.here.path / "work.txt").exists()
    assert Ceiling({}, places_folder()).used()["clusters"] == 0


@pytest.mark.parametrize(
    ("stack", "code", "says"),
    [
        pytest.param("far", 0, "", id="lent-without-a-file"),
        pytest.param("near", 0, "no leased clusters", id="lends-nothing"),
        pytest.param("nearr", 3, "there is no such stack", id="a-slip-of-the-pen"),
    ],
)
def test_a_slip_of_the_pen_does_not_look_after_nothing(
    stack: str, code: int, says: str, lone: Lone, monkeypatch: pytest.MonkeyPatch
):
    (lone.folder / "stacks").mkdir()
    (lone.folder / "stacks/near.yaml").touch()
    monkeypatch.chdir(lone.folder)
    monkeypatch.setattr(leases, "facts_of", lambda *_: {})
    for verb in (["lease", "--json"],) if stack == "far" else (["lease"], ["reap"]):
        found = _asked(*verb, "-s", stack)
        assert (found[0], says in found[1]) == (code, True), found


def test_a_stack_that_is_there_again_is_no_orphan_any_more(lone: Lone):
    answers = iter([False, True])
    suspends = ["/bin/sh", "-c", "exit 0", "leasing"]
    told = orphans.Orphans(lone.folder, None, lambda *_: next(answers), suspends, running=list).reap(remove=True)
    assert (told[0]["did"], "knows far again" in told[0]["failed"]) == (["suspended"], True)
    assert lone.works()
