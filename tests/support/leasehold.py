"""A leased cluster and its gate on the real engine and the real kinds, with an evacuation that fakes the platform's.

Every step that the engine takes is written down by the provider itself, so a test sees the true order.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from toy import ROOT, Stack

PROGRAM = """
import json, pathlib
import pulumi
from stackyard_infra.resources import EvacuationGate, LeasedCluster, Supervisor

wanted = json.loads(pathlib.Path("wanted.json").read_text())
needs = []
if wanted["supervised"]:
    needs = [Supervisor("supervisor", site=wanted["site"], environment=wanted["environment"])]
for name, cluster in wanted["clusters"].items():
    leased = LeasedCluster(
        f"cluster-{name}", site=wanted["site"], cluster=cluster["called"], store=wanted["store"],
        evacuation={"store": wanted["store"]}, processes=cluster["processes"],
        lease={"workers": cluster["workers"], **wanted.get("lease", {})},
        opts=pulumi.ResourceOptions(depends_on=needs),
    )
    EvacuationGate(
        f"gate-{name}", site=wanted["site"], cluster=cluster["called"], instance=leased.instance, store=wanted["store"],
        opts=pulumi.ResourceOptions(depends_on=needs),
    )
"""
PROVIDER = """
import sys
from pathlib import Path
from stackyard_infra.provider import lifecycle, server
from stackyard_infra.provider.leases import EvacuationGateKind, LeasedClusterKind

STEPS, FAKE, CERTIFY = Path({steps!r}), {fake!r}, {certify!r}


def logged(kind, word):
    def step(verb):
        act = getattr(kind, verb)
        def done(*arguments):
            line = f"{{verb}} {{word}} {{arguments[0]['cluster']}}"
            try:
                answer = act(*arguments)
            except Exception:
                line += ": refused"
                raise
            finally:
                with STEPS.open("a") as file:
                    file.write(line + "\\n")
            return answer
        setattr(kind, verb, done)
    for verb in ("create", "update", "delete"):
        step(verb)
    return kind


command, certify = [sys.executable, FAKE], [sys.executable, CERTIFY]
lifecycle.KINDS["stackyard:index:LeasedCluster"] = logged(
    LeasedClusterKind(evacuation=command, certificates=certify), "cluster"
)
lifecycle.KINDS["stackyard:index:EvacuationGate"] = logged(EvacuationGateKind(evacuation=command), "gate")
server.main()
"""
LAUNCHER = """#!/bin/sh
unset PULUMI_CONFIG PULUMI_CONFIG_SECRET_KEYS
exec '{python}' -P '{provider}' "$@"
"""


class Leasehold(Stack):
    """A stack that is one leased cluster, `lab`, and its gate."""

    def __init__(self, folder: Path) -> None:
        (folder / "infra").mkdir(parents=True)
        (folder / "plugin").mkdir()
        (folder / ".venv").symlink_to(ROOT / ".venv")
        (folder / "tools").symlink_to(ROOT / "tools")
        (folder / "infra/__main__.py").write_text(PROGRAM)
        manifest = (ROOT / "Pulumi.yaml").read_text()
        assert "path: infra/stackyard_infra/provider" in manifest
        (folder / "Pulumi.yaml").write_text(manifest.replace("infra/stackyard_infra/provider", "plugin"))
        self.steps_file, provider = folder / "steps.txt", folder / "plugin/provider.py"
        fake = str(ROOT / "tests/support/fake_evacuation.py")
        certify = str(ROOT / "tests/support/fake_certificates.py")
        provider.write_text(PROVIDER.format(steps=str(self.steps_file), fake=fake, certify=certify))
        launcher = folder / "plugin/pulumi-resource-stackyard"
        launcher.write_text(LAUNCHER.format(python=sys.executable, provider=provider))
        launcher.chmod(0o700)
        super().__init__(folder)
        self.state, self.store = folder / ".stackyard/local", folder / "store"
        self.store.mkdir()
        self.state.mkdir(parents=True)
        site = {"stack": "local", "stack_id": self.stack_id, "state": str(self.state), "runtime": str(self.runtime)}
        environment = {"STACKYARD_STACK_ID": self.stack_id}
        self.wanted: dict[str, Any] = {
            "site": site, "store": str(self.store), "supervised": False, "environment": environment, "clusters": {}
        }  # fmt: skip
        self.wants("lab")

    def wants(self, name: str | None, *, called: str | None = None, workers: int = 1, processes: Any = ()) -> None:
        """From now on the program asks for this cluster alone; `called` is its name where it is another."""
        cluster = {"called": called or name, "workers": workers, "processes": list(processes)}
        self.wanted["clusters"] = {} if name is None else {name: cluster}
        (self.folder / "infra/wanted.json").write_text(json.dumps(self.wanted))

    def workspace(self, cluster: str = "lab") -> Path:
        return self.state / "leases" / cluster / "workspace"

    def record(self, cluster: str = "lab") -> dict[str, Any]:
        return json.loads((self.workspace(cluster).parent / "instance.json").read_text())

    def evacuation(self, verb: str, *arguments: str, cluster: str = "lab") -> None:
        fake = str(ROOT / "tests/support/fake_evacuation.py")
        settings = str(self.workspace(cluster).parent / "evacuation.json")
        subprocess.run([sys.executable, fake, verb, settings, *arguments], check=True, stdout=subprocess.DEVNULL)

    def steps(self) -> list[str]:
        """The steps since the last look."""
        lines = self.steps_file.read_text().splitlines() if self.steps_file.exists() else []
        self.steps_file.write_text("")
        return lines

    def urn(self, kind: str, name: str) -> str:
        return f"urn:pulumi:local::stackyard::stackyard:index:{kind}::{name}"


def leasehold(folder: Path) -> Leasehold:
    """A stack that nothing was made of yet."""
    (folder / "backend").mkdir()
    made = Leasehold(folder / "a checkout")
    made.pulumi("stack", "init")
    return made


def clear(stack: Leasehold) -> None:
    """End what runs, remove what lies outside the checkout."""
    from stackyard_infra.provider import tagged

    tagged.end(stack.stack_id, grace=0)
    shutil.rmtree(stack.runtime, ignore_errors=True)
    assert os.path.isdir(stack.folder)
