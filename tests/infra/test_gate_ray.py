"""The real Ray of a leased cluster: it comes up, asks for its token, works in the workspace, and nothing of it stays.

Slow (a Ray head and a worker), and worth it: Ray daemonises, renames and re-parents itself, so only the real one shows
that sealing ends all of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
JOB = """
import json, os, pathlib, ray
ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False)
@ray.remote(num_cpus=1)
def work():
    pathlib.Path(os.environ["STACKYARD_WORKSPACE"], "made.txt").write_text("by a worker")
    return os.environ["STACKYARD_CLUSTER"]
print(json.dumps({"tag": ray.get(work.remote(), timeout=120), "cpus": ray.cluster_resources()["CPU"]}))
"""


def test_a_leased_ray_works_behind_its_own_token_and_goes_without_a_trace(site: dict[str, str], tmp_path: Path):
    clusters = {"lab": LeasedClusterSpec(owner="ada", workers=1)}
    lending = EnvironmentSpec(project="toy", target="local", clusters=clusters)
    store = tmp_path / "store"
    store.mkdir()
    places = Places("test", site["stack_id"], tmp_path, Path(site["state"]), Path(site["runtime"]), store)
    chosen = PortsKind().create({"site": site, "names": leases.ports(clusters), "clusters": leases.addresses(clusters)})
    shared = environment(places, str(tmp_path / "the-stacks-own-token"))
    SupervisorKind().create({"site": site, "environment": shared})
    inputs = {
        "site": site,
        "cluster": "lab",
        "store": str(store),
        "evacuation": leases.evacuation("lab", clusters["lab"], places, chosen["ports"], chosen["addresses"]),
        "processes": leases.processes("lab", clusters["lab"], places, chosen["ports"], chosen["addresses"], saver="1"),
        "lease": leases.lease("lab", lending, chosen["ports"], chosen["addresses"]),
    }
    instance = LeasedClusterKind().create(inputs)["instance"]
    gate = {"site": site, "cluster": "lab", "instance": instance, "store": str(store)}
    EvacuationGateKind().create(gate)

    head = inputs["processes"][1]["environment"]
    allowed = {**os.environ, **shared, **head}
    done = subprocess.run([sys.executable, "-c", JOB], env=allowed, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    [told] = [line for line in done.stdout.splitlines() if line.startswith("{")]  # Ray may print, too
    assert json.loads(told) == {"tag": f"{site['stack_id']}/lab", "cpus": 1.0}
    stranger = tmp_path / "another-token"
    stranger.write_text("0" * 64)
    stranger.chmod(0o600)
    denied = allowed | {"RAY_AUTH_TOKEN_PATH": str(stranger)}
    refused = subprocess.run([sys.executable, "-c", JOB], env=denied, capture_output=True, text=True, timeout=200)
    assert refused.returncode != 0

    EvacuationGateKind().delete(gate)
    left = tagged.find(site["stack_id"])
    assert {tagged.tags_of(process.pid).get(tagged.PROCESS_TAG) for process in left} == {"supervisor"}
    state = inputs | {"instance": instance, "healthy": True}
    LeasedClusterKind().delete(state)
    assert not (Path(site["state"]) / "leases").exists()
    assert not [path for path in Path(site["runtime"]).iterdir() if path.name.startswith("l")], "no session is left"
