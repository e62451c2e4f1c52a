"""A cluster that is suspended: nothing of it runs, all of it stays, its gate lets it go as always.

Slow (a supervisor with real processes), and worth it: only real processes end, and only they are counted by a ceiling.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from guarded import WRITER, Guarded, wait_until
from stackyard_infra.provider import tagged
from stackyard_infra.provider.ceilings import places_folder
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.leases import EvacuationGateKind
from stackyard_infra.provider.processes import SupervisorKind

pytestmark = pytest.mark.slow
LEASE = {"workers": 2, "cpus": 3, "gpus": 0, "budget": {"money": 9.0, "hourly_price": 0.5}, "ceiling": {"cpus": 8}}


@pytest.fixture
def yard(site: dict[str, str], tmp_path: Path) -> Guarded:
    return Guarded(site, tmp_path / "store", LEASE)


def _suspended(yard: Guarded, **changed: Any) -> Path:
    """What whoever suspends writes first."""
    record = yard.here.record()
    assert record is not None
    noted = {"version": 1, "instance": record.instance, "generation": record.generation, "reason": "idle"}
    file = yard.here.folder / "suspended.json"
    file.write_text(json.dumps(noted | {"because": "nobody used it", "whole": True, "saved": 1} | changed))
    return file


def _does(yard: Guarded, what: str) -> tuple[int, str]:
    """The exit code of `suspend` or `resume` as lease.json names them, and what was said."""
    done = subprocess.run(yard.here.lease()[what], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.stdout == ""
    return done.returncode, done.stderr


def _usage(yard: Guarded) -> list[str]:
    return [json.loads(line)["what"] for line in (yard.here.folder / "usage.jsonl").read_text().splitlines()]


def _places() -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in places_folder().glob("*.json")]


def test_a_suspended_cluster_rests_until_it_is_resumed_whatever_comes_by(yard: Guarded):
    yard.open()
    before, tokens = yard.here.record(), (yard.here.folder / "ray-token").read_text()
    assert [(place["workers"], place["cpus"]) for place in _places()] == [(2, 3)]
    noted = _suspended(yard)
    assert _does(yard, "suspend") == (0, "")
    assert _does(yard, "suspend") == (0, ""), "it may be repeated"
    assert not yard.writers()
    assert not _places()
    assert yard.read()["healthy"], "a refresh finds nothing to mend"
    assert yard.gates.read(yard.gate) == {}, "its gate stays"

    other = yard.inputs | {"processes": [yard.process("second", [sys.executable, "-c", WRITER])]}
    yard.clusters.update(yard.read(), other)
    assert not yard.writers()
    assert [each["name"] for each in json.loads((yard.here.folder / "processes.json").read_text())] == ["second"]
    code, said = _does(yard, "resume")
    assert (code, "is suspended: nobody used it" in said) == (1, True)

    noted.unlink()
    size = yard.log.stat().st_size
    assert _does(yard, "resume") == (0, "")
    assert _does(yard, "resume") == (0, ""), "it may be repeated"
    wait_until(lambda: yard.log.stat().st_size > size)
    assert {tagged.tags_of(process.pid)[tagged.PROCESS_TAG] for process in yard.writers()} == {"second"}
    assert (yard.here.record(), (yard.here.folder / "ray-token").read_text()) == (before, tokens)
    assert _usage(yard) == ["opened", "closed", "opened"]
    assert len(_places()) == 1


def test_a_suspended_cluster_is_destroyed_with_a_receipt(yard: Guarded):
    yard.open()
    _suspended(yard)
    assert _does(yard, "suspend") == (0, "")
    yard.gates.delete(yard.gate)
    assert len(list((yard.store / "receipts").iterdir())) == 1
    yard.clusters.delete(yard.state())
    assert not yard.here.folder.exists()
    assert not _places()


def test_without_a_supervisor_it_is_suspended_all_the_same_and_resumed_by_up_alone(yard: Guarded):
    yard.open()
    [supervisor] = [each for each in tagged.find(yard.site["stack_id"], "supervisor") if each.pid not in _pids(yard)]
    supervisor.kill()
    supervisor.wait()
    _suspended(yard)
    (yard.here.folder / "processes.json").unlink()  # lost, too: what is left is the tag
    assert _does(yard, "suspend")[0] == 0
    assert not yard.writers()
    (yard.here.folder / "suspended.json").unlink()
    code, said = _does(yard, "resume")
    assert (code, "`up` starts it, and lab with it" in said) == (1, True)
    SupervisorKind().create({"site": yard.site, "environment": {tagged.STACK_TAG: yard.site["stack_id"]}})
    yard.clusters.update(yard.state(), yard.inputs)
    assert yard.works()


def test_a_sealed_cluster_is_not_resumed_and_another_opening_knows_of_no_suspension(yard: Guarded):
    yard.open()
    file = _suspended(yard)
    yard.gates.delete(yard.gate)
    code, said = _does(yard, "resume")
    assert (code, "is sealed" in said) == (1, True)
    yard.gates.create(yard.gate)
    assert not file.exists()
    assert yard.works()


def test_nothing_is_changed_for_a_cluster_that_would_grow_past_the_ceiling(yard: Guarded):
    yard.open()
    bigger = yard.inputs | {"lease": {"cluster": "lab", **LEASE, "workers": 3}}
    processes = [*yard.inputs["processes"], yard.process("second", [sys.executable, "-c", WRITER])]
    with pytest.raises(Refusal, match="would come to 9 cpus, and the ceiling is 8"):
        yard.clusters.update(yard.state(), bigger | {"processes": processes})
    assert yard.here.lease()["workers"] == 2
    assert not tagged.find(yard.site["stack_id"], "second")
    yard.clusters.update(yard.state(), yard.inputs | {"lease": {"cluster": "lab", **LEASE, "workers": 1}})
    assert [place["workers"] for place in _places()] == [1], "what ended gave its place back"
    assert _usage(yard) == ["opened", "closed", "opened"], "and counts for less from now on"


def test_a_cluster_whose_lease_is_over_is_not_opened_and_keeps_its_receipt(yard: Guarded):
    yard.open()
    yard.gates.delete(yard.gate)
    before = yard.here.record()
    told = {"at": "2027-01-02T00:00:00+00:00", "all_ends": {"ttl": "2027-01-01T00:00:00+00:00"}}
    gates = EvacuationGateKind(leasing=["/bin/sh", "-c", f"echo '{json.dumps(told)}'; exit 1"])
    with pytest.raises(Refusal, match=r"lease is over: .*stackyard lease extend lab --for 7d .*stacks/test\.yaml"):
        gates.create(yard.gate)
    assert yard.here.record() == before, "its receipt still holds"
    assert not _places()
    silent = EvacuationGateKind(leasing=["/bin/sh", "-c", "echo 'no Python here' >&2; exit 3"])
    with pytest.raises(Refusal, match=r"is over is not known: .*exit code 3: no Python here"):
        silent.create(yard.gate)


def _pids(yard: Guarded) -> set[int]:
    return {process.pid for process in yard.writers()}
