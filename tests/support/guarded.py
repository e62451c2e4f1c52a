"""One leased cluster and its gate over processes that really write; evacuation and certificates are fakes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from stackyard_infra.provider import tagged
from stackyard_infra.provider.leases import EvacuationGateKind, LeasedClusterKind
from stackyard_infra.provider.processes import SupervisorKind
from stackyard_infra.provider.site import Site
from stackyard_infra.provider.workspaces import Workspace

FAKE, CERTIFY = (
    [sys.executable, str(Path(__file__).with_name(f"fake_{what}.py"))] for what in ("evacuation", "certificates")
)
WRITER = "import time\nwhile True:\n  open('log.txt', 'a').write('work\\n')\n  time.sleep(0.01)"


class Guarded:
    """One cluster with a writer and a saver, its gate, and a store."""

    def __init__(self, site: dict[str, str], store: Path, lease: dict[str, Any] | None = None) -> None:
        self.site, self.store = site, store
        self.here = Workspace(Site.of({"site": site}), "lab")
        self.clusters = LeasedClusterKind(evacuation=FAKE, certificates=CERTIFY)
        self.gates = EvacuationGateKind(evacuation=FAKE)
        self.inputs = {
            "site": site,
            "cluster": "lab",
            "store": str(store),
            "evacuation": {"store": str(store)},
            "processes": [self.process("writer", [sys.executable, "-c", WRITER])],
            "lease": {"cluster": "lab", **(lease or {})},
        }
        store.mkdir()
        SupervisorKind().create({"site": site, "environment": {tagged.STACK_TAG: site["stack_id"]}})
        self.instance = self.clusters.create(self.inputs)["instance"]
        self.gate = {"site": site, "cluster": "lab", "instance": self.instance, "store": str(store)}

    def process(self, name: str, command: list[str]) -> dict[str, Any]:
        tag = {"STACKYARD_CLUSTER": f"{self.site['stack_id']}/lab"}
        return {"name": name, "command": command, "environment": tag, "health": {"timeout": 30}, "version": "1"}

    @property
    def log(self) -> Path:
        return self.here.path / "log.txt"

    def writers(self) -> list[psutil.Process]:
        return self.here.writers()

    def open(self) -> None:
        self.gates.create(self.gate)
        wait_until(lambda: self.log.exists() and self.log.stat().st_size)

    def works(self) -> bool:
        size = self.log.stat().st_size
        wait_until(lambda: self.log.stat().st_size > size, limit=20)
        return True

    def state(self) -> dict[str, Any]:
        return self.inputs | {"instance": self.instance, "healthy": True}

    def read(self) -> dict[str, Any]:
        return self.state() | (self.clusters.read(self.state()) or {})


def wait_until(condition: Callable[[], object], limit: float = 60.0) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
