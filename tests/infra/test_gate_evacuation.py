"""Gate, cluster and the verbs about them with the platform's own evacuation, over a process that really writes.

Slow (a supervisor, a saver and many evacuation processes), and worth it: the two rooms meet only as processes and
documents, so only running both shows that they understand one another.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from stackyard_infra.cli import leases as verbs
from stackyard_infra.provider import tagged
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.leases import EvacuationGateKind, LeasedClusterKind
from stackyard_infra.provider.processes import SupervisorKind
from stackyard_infra.provider.site import Site
from stackyard_infra.provider.workspaces import Workspace

pytestmark = pytest.mark.slow
WRITER = "import time\nwhile True:\n  open('log.txt', 'a').write('work\\n')\n  time.sleep(0.05)"
MODULE = [sys.executable, "-P", "-m", "stackyard.evacuation"]


class Lab:
    """A checkout with one leased cluster: a writer, the platform's saver, a store."""

    def __init__(self, checkout: Path, site: dict[str, str]) -> None:
        self.checkout, self.store = checkout, checkout / "store"
        (checkout / "Pulumi.yaml").touch()
        self.here = Workspace(Site.of({"site": site}), "lab")
        tag = {"STACKYARD_CLUSTER": f"{site['stack_id']}/lab"}
        running = {"health": {"timeout": 30}, "version": "1"}
        settings = str(self.here.settings)
        self.inputs: dict[str, Any] = {
            "site": site,
            "cluster": "lab",
            "store": str(self.store),
            "evacuation": {"store": str(self.store), "every": 3600.0},
            "processes": [
                {"name": "writer", "command": [sys.executable, "-c", WRITER], "environment": tag, **running},
                {"name": "saver", "command": [*MODULE, "watch", settings], "environment": {}, **running}
                | {"folder": str(self.here.folder)},
            ],
            "lease": {"cluster": "lab", "owner": "ada", "every": 3600.0, "lease": {"end": None, "ttl": 3600.0}},
        }
        self.store.mkdir()
        SupervisorKind().create({"site": site, "environment": {tagged.STACK_TAG: site["stack_id"]}})
        self.clusters, self.gates = LeasedClusterKind(), EvacuationGateKind()
        instance = self.clusters.create(self.inputs)["instance"]
        self.gate = {"site": site, "cluster": "lab", "instance": instance, "store": str(self.store)}
        self.state = self.inputs | {"instance": instance, "healthy": True}
        self.app = typer.Typer()
        verbs.register(self.app)

    @property
    def log(self) -> Path:
        return self.here.path / "log.txt"

    def open(self) -> None:
        self.gates.create(self.gate)
        wait_until(lambda: self.log.exists() and self.log.stat().st_size)

    def asked(self, *words: str, code: int = 0) -> Any:
        done = CliRunner().invoke(self.app, [*words, "-s", "test"])
        assert done.exit_code == code, done.output
        return json.loads(done.stdout) if "--json" in words else done.output


@pytest.fixture
def lab(tmp_path: Path, site: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Lab:
    state = tmp_path / ".stackyard/test"
    state.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return Lab(tmp_path, site | {"state": str(state)})


def wait_until(condition: Callable[[], object], limit: float = 60.0) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_cluster_goes_with_a_receipt_and_its_work_comes_back_bit_by_bit(lab: Lab, tmp_path: Path):
    assert lab.asked("lease", "--json")["clusters"][0]["state"] == "sealed"
    lab.open()
    wait_until(lambda: (lab.asked("lease", "--json")["clusters"][0]["age"] or 99) < 30)
    [facts] = lab.asked("lease", "--json")["clusters"]
    assert (facts["cluster"], facts["owner"], facts["state"], facts["same_disk"]) == ("lab", "ada", "open", True)
    assert 3000 < facts["left"] <= 3600
    assert "store and workspace are on one disk" in lab.asked("lease")
    lab.gates.delete(lab.gate)
    assert not lab.here.writers()
    written, settings = lab.log.read_bytes(), lab.here.settings.read_text()
    lab.clusters.delete(lab.state)
    assert not lab.here.folder.exists()

    told = tmp_path / "settings.json"
    told.write_text(settings)
    restored = [*MODULE, "restore", str(told), "latest", str(tmp_path / "restored")]
    subprocess.run(restored, check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "restored/log.txt").read_bytes() == written


def test_a_store_that_is_away_is_refused_with_a_command_that_works(lab: Lab):
    lab.open()
    wait_until(lambda: (lab.asked("lease", "--json")["clusters"][0]["age"] or 99) < 30)
    lab.store.rename(lab.store.with_name("elsewhere"))
    with pytest.raises(Refusal) as refused:
        lab.gates.delete(lab.gate)
    assert "log.txt: " in str(refused.value)
    assert str(refused.value).endswith('stackyard evacuate lab --discard --because "..." -s test')
    size = lab.log.stat().st_size
    wait_until(lambda: lab.log.stat().st_size > size)
    assert lab.asked("lease", "--json")["clusters"][0]["store"] == "away"
    lab.asked("evacuate", "lab", "--discard", code=2)
    lab.asked("evacuate", "lib", "--discard", "--because=a drill", code=1)
    assert "may be lost" in lab.asked("evacuate", "lab", "--discard", "--because=a drill")
    lab.gates.delete(lab.gate)
    lab.clusters.delete(lab.state)
    assert not lab.here.folder.exists()


def test_a_cluster_evacuated_by_hand_is_sealed_until_its_next_gate(lab: Lab):
    lab.open()
    assert "safe and sealed" in lab.asked("evacuate", "lab")
    assert not lab.here.writers()
    assert lab.gates.read(lab.gate) is None
    (lab.here.path / "late.txt").write_text("somebody worked on")
    with pytest.raises(Refusal, match=r"late\.txt"):
        lab.clusters.delete(lab.state)
    lab.open()
    lab.gates.delete(lab.gate)
    lab.clusters.delete(lab.state)
