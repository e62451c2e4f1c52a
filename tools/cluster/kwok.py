"""Profile `kwok`: a real control plane on loopback, and nodes that are only said to be there, GPUs and all. No root.

Pods are scheduled and said to run; nothing runs. For questions of scale, scheduling, quotas and node pools.
"""

from __future__ import annotations

import json
import shutil
import socket
from typing import Any

from cluster import api, binaries, credentials, daemons, lock, processes, profiles, rendering, steps
from cluster.folders import Home
from machine import places, say

_MODULES = (*profiles.CONTROL_PLANE, "kwok")
_FIRST_PORT, _LAST_PORT, _STEP = 21640, 21990, 10
_OPERATOR = 5
"""The operator's health page, counted from the cluster's first port."""

NODES = {
    "cpu": {"count": 2, "cpu": "16", "memory": "64Gi", "gpus": 0},
    "gpu": {"count": 2, "cpu": "32", "memory": "256Gi", "gpus": 8},
}
"""Pools of the nodes that a new cluster has. More: `kubectl apply` of any Node."""


def able() -> None:
    """End the command on a machine where it cannot run."""
    missing = [name for name in ("bash", "setpriv", "nice") if not shutil.which(name)]
    if missing:
        say.stop(f"not on this machine: {', '.join(missing)} (bash, util-linux).")


def up(home: Home, asked: str | None) -> None:
    """Bring it up, or back. Call under `only_one`."""
    if asked:
        say.stop("the profile kwok has no network of its own: leave --addresses out.")
    record = profiles.record(home)
    running = bool(record) and any(processes.tagged(home.tag))
    digest = profiles.made_of(_MODULES, {"nodes": nodes(), "roles": rendering.roles() + rendering.kwok_roles()})
    if record and record["made_of"] != digest:
        profiles.differ(running)
        return
    if not record or not supervised(home):
        stop(home)
        with places.only_one(profiles.making(), "building what clusters are made of"):
            binaries.build(profiles.modules(_MODULES), home.logs)
        first = record["port"] if record else _free_port()
        record = {"profile": home.profile, "port": first, "made_of": digest, "kubectl": str(profiles.built_kubectl())}
        _start(home, record)
    kwok = binaries.target(lock.read().modules["kwok"]) / "files" / "kustomize" / "rbac" / "role.yaml"
    ours = [home.settings / "kwok.yaml", home.settings / "nodes.yaml"]
    profiles.settle(home, [*profiles.manifests(home), kwok, *ours])
    client = api.Client(home)

    def alive() -> bool:
        return supervised(home)

    for name in names():
        steps.until(f"node {name}", lambda at=name: client.node_ready(at), 60, home.logs / "kwok.log", alive)
    health = f"127.0.0.1:{record['port'] + _OPERATOR}"
    log = home.logs / "kuberay-operator.log"
    steps.until("the KubeRay operator", lambda: api.healthy(health, "healthz"), 60, log, alive)


def stop(home: Home) -> None:
    """End all its processes; its data stays."""
    # The supervisor may start another while we kill the first.
    for _ in range(3):
        found = processes.tagged(home.tag)
        if not found:
            return
        if not processes.end(found):
            say.stop(f"processes of the cluster do not end: {found}", steps.FAILED)


def down(home: Home) -> None:
    """End it and remove it."""
    stop(home)
    profiles.forget(home)


def supervised(home: Home) -> bool:
    """Whether the one that restarts the others is there."""
    return any(processes.runs(pid, "supervise.sh") for pid in processes.tagged(home.tag))


def names() -> list[str]:
    """The names of the nodes of a new cluster."""
    return [f"{pool}-{i}" for pool, facts in NODES.items() for i in range(int(facts["count"]))]


def nodes() -> str:
    """Their manifests."""
    items = [_node(pool, i, facts) for pool, facts in NODES.items() for i in range(int(facts["count"]))]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1) + "\n"


def _node(pool: str, number: int, facts: dict[str, Any]) -> dict[str, Any]:
    room = {"cpu": facts["cpu"], "memory": facts["memory"], "pods": "110", "ephemeral-storage": "500Gi"}
    labels = {"kubernetes.io/hostname": f"{pool}-{number}", "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    labels |= {"topology.kubernetes.io/zone": f"zone-{number % 2}", "stackyard/pool": pool, "type": "kwok"}
    spec = {}
    if facts["gpus"]:
        room["nvidia.com/gpu"] = str(facts["gpus"])
        labels["nvidia.com/gpu.present"] = "true"
        spec = {"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": f"{pool}-{number}",
            "labels": labels,
            "annotations": {"kwok.x-k8s.io/node": "fake", "node.alpha.kubernetes.io/ttl": "0"},
        },
        "spec": spec,
        "status": {"allocatable": room, "capacity": room},
    }


def _start(home: Home, record: dict[str, Any]) -> None:
    first = record["port"]
    ports = daemons.Ports("127.0.0.1", first, first + 1, first + 2, first + 3, first + 4)
    where = daemons.Places(
        settings=str(home.settings),
        credentials=str(home.credentials),
        data=str(home.data),
        programs={module.name: str(binaries.target(module)) for module in profiles.modules(_MODULES)},
    )
    everything = [
        *daemons.control_plane(where, ports, daemons.KWOK_SERVICES),
        daemons.kwok(where),
        daemons.kuberay(where, "127.0.0.1", first + _OPERATOR),
    ]
    texts = {"roles.yaml": rendering.roles(), "kwok.yaml": rendering.kwok_roles(), "nodes.yaml": nodes()}
    profiles.prepare(home, texts, everything, {"HOME": str(home.folder)})
    program = binaries.target(lock.read().modules["own"]) / "credentials"
    credentials.make(home, ports, daemons.addresses_of(ports, None), program)
    profiles.write_record(home, record)
    script = home.settings / "supervise.sh"
    folders = [home.settings / "daemons", home.pids, home.logs]
    asking = [profiles.built_kubectl(), home.kubeconfig]
    command = ["bash", *map(str, (script, *folders, *asking))]
    profiles.detached(home, command, home.logs / "supervisor.log")


def _free_port() -> int:
    """The first of a row of ports that nobody has on loopback."""
    for first in range(_FIRST_PORT, _LAST_PORT, _STEP):
        if all(_free(first + offset) for offset in range(_OPERATOR + 1)):
            return first
    return say.stop(f"no row of free ports on loopback between {_FIRST_PORT} and {_LAST_PORT}.")


def _free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
