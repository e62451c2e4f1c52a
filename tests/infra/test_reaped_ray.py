"""A real leased Ray that nobody uses any more is told from one that is used, suspended, and started again.

Slow (a Ray head and a worker, twice), and worth it: only the real daemons show that their own turning over is no use,
that their jobs are told behind their token, and that all of them end and come back.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from stackyard.leasing import processes, signals, verbs
from stackyard.leasing.folder import Folder
from stackyard.leasing.processes import Counts
from stackyard.spec.leases import LeasedClusterSpec
from stackyard.spec.models import EnvironmentSpec
from stackyard_infra.manifests import leases
from stackyard_infra.manifests.environment import environment
from stackyard_infra.manifests.places import Places
from stackyard_infra.provider import tagged
from stackyard_infra.provider.leases import EvacuationGateKind, LeasedClusterKind
from stackyard_infra.provider.ports import PortsKind
from stackyard_infra.provider.processes import SupervisorKind

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.lifecycle]
REST = 10.0
"""Seconds in which daemons that rest turn over a little."""
DRIVER = """
import os, time, ray
ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False)
@ray.remote(num_cpus=1)
def work(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end: pass
ray.get(work.remote(0))
print("connected", flush=True)
input()
print("asked", flush=True)
ray.get(work.remote(600))
"""


def opened(site: dict[str, str], tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A leased cluster that runs: its folder, and what its people's processes see."""
    clusters = {"lab": LeasedClusterSpec(owner="ada", workers=1)}
    store = tmp_path / "store"
    store.mkdir()
    places = Places("test", site["stack_id"], tmp_path, Path(site["state"]), Path(site["runtime"]), store)
    chosen = PortsKind().create({"site": site, "names": leases.ports(clusters), "clusters": leases.addresses(clusters)})
    shared = environment(places, str(tmp_path / "the-stacks-own-token"))
    SupervisorKind().create({"site": site, "environment": shared})
    lending = EnvironmentSpec(project="toy", target="local", clusters=clusters)
    ports = (chosen["ports"], chosen["addresses"])
    inputs = {
        "site": site,
        "cluster": "lab",
        "store": str(store),
        "evacuation": leases.evacuation("lab", clusters["lab"], places, *ports),
        "processes": leases.processes("lab", clusters["lab"], places, *ports, saver="1"),
        "lease": leases.lease("lab", lending, *ports),
    }
    instance = LeasedClusterKind().create(inputs)["instance"]
    EvacuationGateKind().create({"site": site, "cluster": "lab", "instance": instance, "store": str(store)})
    return leases.folder(places, "lab"), {**os.environ, **shared, **inputs["processes"][1]["environment"]}


def used(folder: Folder, seconds: float) -> Any:
    """What the processes did in so many seconds."""
    settings = folder.settings()
    assert settings is not None
    before = processes.count(processes.mine(settings, folder.commands()), *processes.uptime())
    time.sleep(seconds)
    found = processes.mine(settings, folder.commands())
    return processes.judge(
        Counts.read(before.kept()), processes.count(found, *processes.uptime()), found, gap=signals.GAP
    )


def test_a_real_ray_is_told_idle_or_not_and_ends_and_comes_back(site: dict[str, str], tmp_path: Path) -> None:
    path, surroundings = opened(site, tmp_path)
    folder = Folder(path)
    lease = folder.lease()
    assert lease is not None
    found = signals.jobs(lease)
    assert (found.known, found.busy, found.last) == (True, False, None), found
    rest = used(folder, REST)
    assert not rest.busy, rest

    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER], env=surroundings, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=path / "workspace", start_new_session=True,
    )  # fmt: skip
    assert driver.stdout is not None and driver.stdin is not None
    assert driver.stdout.readline() == "connected\n"
    connected = signals.jobs(lease)
    assert (connected.known, connected.busy) == (True, False), connected
    assert connected.last is not None
    time.sleep(3)
    rest = used(folder, REST)
    assert not rest.busy, rest
    driver.stdin.write("\n")
    driver.stdin.flush()
    assert driver.stdout.readline() == "asked\n"
    time.sleep(1)
    assert used(folder, 2.0).busy

    code, told = verbs.suspend(path, "the month is over", "asked")
    assert (code, told["state"]) == (0, "suspended"), told
    left = tagged.find(site["stack_id"])
    assert {tagged.tags_of(process.pid).get(tagged.PROCESS_TAG) for process in left} == {"supervisor"}
    assert driver.wait(10) != 0
    code, told = verbs.resume(path, "ada")
    assert (code, told["state"]) == (0, "open"), told
    assert signals.jobs(lease).known
    usage = [json.loads(line)["what"] for line in (path / "usage.jsonl").read_text().splitlines()]
    assert usage == ["opened", "closed", "opened"]
