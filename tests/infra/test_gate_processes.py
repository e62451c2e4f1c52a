"""A gate over processes that really write: what is frozen, thawed, ended and opened again.

Slow (a supervisor with real processes), and worth it: only a real writer shows that nothing is written after a receipt.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from guarded import FAKE, WRITER, Guarded, wait_until
from stackyard_infra.provider import tagged
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.evacuation import Evacuation
from stackyard_infra.provider.processes import SupervisorKind
from stackyard_infra.provider.site import Site
from stackyard_infra.provider.workspaces import Workspace

pytestmark = pytest.mark.slow


@pytest.fixture
def yard(site: dict[str, str], tmp_path: Path) -> Guarded:
    return Guarded(site, tmp_path / "store")


def test_only_a_gate_opens_a_cluster_and_what_it_lets_go_is_saved_to_the_last_byte(yard: Guarded):
    assert not yard.writers(), "a cluster without a gate is closed"
    yard.open()
    assert yard.read()["healthy"]
    yard.gates.delete(yard.gate)
    assert not yard.writers()
    record = yard.here.record()
    assert record is not None and record.sealed
    written = yard.log.read_bytes()
    [receipt] = (yard.store / "receipts").iterdir()
    files = json.loads(receipt.read_text())["files"]
    assert files == {"log.txt": hashlib.sha256(written).hexdigest()}, "nothing was written after the receipt"
    yard.clusters.delete(yard.state())
    assert not yard.here.folder.exists()
    assert yard.clusters.read(yard.state()) is None


def test_a_refusal_leaves_everything_working(yard: Guarded):
    yard.open()
    (yard.here.path / "key.bin").write_text("unreadable")
    before = {process.pid for process in yard.writers()}
    with pytest.raises(Refusal, match=r"key\.bin: it cannot be read"):
        yard.gates.delete(yard.gate)
    assert {process.pid for process in yard.writers()} == before
    assert yard.works()
    with pytest.raises(Refusal, match="without a valid receipt or discard"):
        yard.clusters.delete(yard.state())
    assert yard.works()


def test_a_store_that_is_away_keeps_the_cluster(yard: Guarded):
    yard.open()
    yard.store.rename(yard.store.with_name("away"))
    with pytest.raises(Refusal, match="the store is away"):
        yard.gates.delete(yard.gate)
    assert yard.works()


def test_what_a_killed_evacuation_left_frozen_is_unhealthy_and_the_next_up_thaws_it(yard: Guarded):
    yard.open()
    before = {process.pid for process in yard.writers()}
    for process in yard.writers():
        process.suspend()
    assert not yard.read()["healthy"]
    assert yard.clusters.drift(yard.read()) == {"healthy"}
    yard.clusters.update(yard.read(), yard.inputs)
    assert {process.pid for process in yard.writers()} == before, "thawed, not started anew"
    assert yard.works()


def test_an_evacuation_that_ended_after_its_provider_was_killed_is_opened_again_by_another_gate(yard: Guarded):
    yard.open()
    before = yard.here.record()
    assert before is not None
    Evacuation(yard.here.prepare(), FAKE).ask("evacuate")
    assert yard.gates.read(yard.gate) is None, "its work is done, so a refresh takes it out of the state"
    assert yard.read()["healthy"], "and nothing thaws the cluster but another gate"
    yard.clusters.update(yard.read(), yard.inputs)
    size = yard.log.stat().st_size
    yard.gates.create(yard.gate)
    assert yard.here.record() == replace(before, generation=before.generation + 1)
    assert yard.gates.read(yard.gate) == {}
    wait_until(lambda: yard.log.stat().st_size > size)


def test_a_killed_writer_runs_again_after_the_next_up_and_a_sealed_one_does_not(yard: Guarded):
    yard.open()
    tagged.end(yard.site["stack_id"], grace=0)
    assert not yard.read()["healthy"]
    SupervisorKind().create({"site": yard.site, "environment": {tagged.STACK_TAG: yard.site["stack_id"]}})
    yard.clusters.update(yard.read(), yard.inputs)
    assert yard.works()
    yard.gates.delete(yard.gate)
    assert yard.read()["healthy"], "a sealed cluster has nothing to heal"
    yard.clusters.update(yard.read(), yard.inputs)
    assert not yard.writers()


def test_a_cluster_of_another_size_keeps_its_work_and_ends_what_it_no_longer_has(yard: Guarded):
    yard.open()
    other = yard.inputs | {"processes": [yard.process("second", [sys.executable, "-c", WRITER])]}
    yard.clusters.update(yard.state(), other)
    assert yard.log.stat().st_size
    assert not tagged.find(yard.site["stack_id"], "writer")
    assert tagged.find(yard.site["stack_id"], "second")


def test_a_cluster_that_cannot_run_stays_sealed(yard: Guarded):
    broken = yard.process("writer", [sys.executable, "-c", "raise SystemExit('no GPU here')"])
    yard.clusters.update(yard.state(), yard.inputs | {"processes": [broken | {"health": {"timeout": 3}}]})
    with pytest.raises(Refusal, match=r"no GPU here|is not healthy"):
        yard.gates.create(yard.gate)
    record = yard.here.record()
    assert record is not None and record.sealed
    assert not yard.writers()


def test_a_gate_of_an_instance_that_is_gone_saves_what_lives_under_the_name_and_seals_nothing(yard: Guarded):
    yard.open()
    before = yard.here.record()
    yard.gates.delete(yard.gate | {"instance": "another"})
    assert yard.here.record() == before
    assert yard.works()
    assert list((yard.store / "versions").iterdir())
    assert not (yard.store / "receipts").exists()
    yard.gates.create(yard.gate | {"instance": "another"})
    assert yard.here.record() == before, "and it opens nothing"


def test_what_its_owner_closed_to_himself_is_taken_away_as_well(yard: Guarded):
    closed = yard.here.path / "closed"
    closed.mkdir()
    (closed / "file").touch()
    closed.chmod(0o500)
    yard.here.path.joinpath("link").symlink_to("/etc")
    yard.here.remove()
    assert not yard.here.folder.exists()


def test_a_moved_checkout_evacuates_from_where_it_lies_now(yard: Guarded, tmp_path: Path):
    yard.here.prepare()
    settings = json.loads(yard.here.settings.read_text())
    elsewhere = Workspace(Site("test", yard.site["stack_id"], tmp_path / "moved", Path(yard.site["runtime"])), "lab")
    (tmp_path / "moved/leases").mkdir(parents=True)
    yard.here.folder.rename(elsewhere.folder)
    Path(yard.site["state"]).joinpath("keys").rename(tmp_path / "moved/keys")
    moved = json.loads(elsewhere.prepare().read_text())
    assert moved["workspace"] == str(elsewhere.path)
    assert [moved[name] for name in ("instance", "trusted_keys")] == [settings[n] for n in ("instance", "trusted_keys")]
