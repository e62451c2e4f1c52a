"""What a leased cluster consists of: a Ray head, workers, a notebook, a saver; and what is kept beside its workspace.

Pure. The Ray token is the cluster's own: who works in a notebook has no key to the cluster that serves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stackyard.spec.leases import LeasedClusterSpec
from stackyard.spec.models import EnvironmentSpec
from stackyard_infra.manifests import extras, notebooks
from stackyard_infra.manifests.places import Places
from stackyard_infra.manifests.processes import RAY_PORTS, START, Numbers, Plain

NODE_PORTS = ("node_manager", "object_manager", "agent_http", "agent_grpc", "metrics", "runtime_env")
"""The ports of a Ray node that is no head."""
OBJECT_STORE = 128 << 20
"""Bytes of shared memory of each node."""


Clusters = Mapping[str, LeasedClusterSpec]


def ports(clusters: Clusters) -> list[str]:
    """Every port of the leased clusters, by name."""
    found = []
    for name, cluster in clusters.items():
        found += [_port(name, "head", port) for port in RAY_PORTS]
        found += [_port(name, f"worker-{n}", port) for n in range(cluster.workers) for port in NODE_PORTS]
        found += [_port(name, "notebook", "http")] if cluster.notebook else []
    return found


def addresses(clusters: Clusters) -> list[str]:
    """The Ray clusters that need a loopback address of their own."""
    return [f"lease-{name}" for name in clusters]


def folder(places: Places, name: str) -> Path:
    """Where all of one cluster lies."""
    return places.state / "leases" / name


def evacuation(
    name: str, cluster: LeasedClusterSpec, places: Places, numbers: Numbers, addresses: Mapping[str, str]
) -> Plain:
    """What the saver is told; where and who the workspace is, the provider adds, which knows."""
    save, here = cluster.save, folder(places, name)
    return {
        "store": str(places.store),
        "every": save.every,
        "include": list(save.include),
        "exclude": list(save.exclude),
        "largest": save.largest,
        "encrypt_key": str(places.state / "keys" / "workspace-key") if save.encrypt else None,
        "extras": extras.wanted(
            python=places.python,
            dashboard=_dashboard(name, numbers, addresses),
            token=here / "ray-token",
            session=_scratch(name, places),
            notebook=here / notebooks.KEPT if cluster.notebook else None,
        ),
    }


def lease(
    name: str, environment: EnvironmentSpec, numbers: Numbers, addresses: Mapping[str, str], clock: str | None = None
) -> Plain:
    """What the calendar and whoever ends clusters need to know; where it lies and how it is suspended, the provider
    adds, which knows. `clock` is the file of a virtual one."""
    cluster = environment.clusters[name]
    told = {"workers", "cpus", "gpus", "lease", "owner", "tell", "budget", "rehearsal", "data"}
    port = f"127.0.0.1:{numbers[_port(name, 'notebook', 'http')]}" if cluster.notebook else None
    return {
        "cluster": name,
        "every": cluster.save.every,
        **cluster.model_dump(mode="json", include=told),
        "ceiling": environment.ceiling.model_dump(mode="json"),
        "clock": clock,
        "ray_address": _address(name, numbers, addresses),
        "dashboard": _dashboard(name, numbers, addresses),
        "notebook": None if port is None else f"http://{port}",
    }


def processes(
    name: str, cluster: LeasedClusterSpec, places: Places, numbers: Numbers, addresses: Mapping[str, str], *, saver: str
) -> list[Plain]:
    """What runs while the cluster is open, in the order in which it is started: the saver first, since Ray may take
    minutes on a busy machine. `saver` is the digest of its code: after an upgrade the saver is restarted, and nobody's
    work on Ray is."""
    found = [_head(name, places, numbers, addresses)]
    found += [_worker(name, cluster, n, places, numbers, addresses) for n in range(cluster.workers)]
    found += [_notebook(name, places, numbers, addresses)] if cluster.notebook else []
    return [_saver(name, places) | {"version": saver}, *found]


def card(clusters: Clusters, places: Places, numbers: Numbers) -> Plain:
    """What the stack's card says of its leased clusters; nothing where there are none."""
    found = [_found(name, cluster, places, numbers) for name, cluster in clusters.items()]
    return {"clusters": found} if found else {}


def _found(name: str, cluster: LeasedClusterSpec, places: Places, numbers: Numbers) -> Plain:
    """Where people find the cluster."""
    beside = folder(places, name)
    found = {"name": name, "owner": cluster.owner, "folder": str(beside), "workspace": str(beside / "workspace")}
    found["settings"] = str(beside / "evacuation.json")
    if cluster.notebook:
        found["notebook"] = f"http://127.0.0.1:{numbers[_port(name, 'notebook', 'http')]}/lab"
        found["notebook_token_path"] = str(beside / "notebook-token")
    return found


def _head(name: str, places: Places, numbers: Numbers, addresses: Mapping[str, str]) -> Plain:
    port = {each: numbers[_port(name, "head", each)] for each in RAY_PORTS}
    options = {
        "port": port["gcs"],
        "ray-client-server-port": port["client"],
        "include-dashboard": "true",
        "dashboard-host": addresses[f"lease-{name}"],
        "dashboard-port": port["dashboard"],
        "num-cpus": 0,
        "num-gpus": 0,
        "temp-dir": str(_scratch(name, places)),
    }
    node = {
        "node_manager": port["node_manager"],
        "object_manager": port["object_manager"],
        "agent_http": port["agent_http"],
        "agent_grpc": port["agent_grpc"],
        "metrics": port["metrics"],
        "runtime_env": port["runtime_env_agent"],
    }
    environment = _environment(name, places, numbers, addresses)
    environment |= {
        "DASHBOARD_METRIC_PORT": str(port["dashboard_metrics"]),
        "AUTOSCALER_METRIC_PORT": str(port["autoscaler_metrics"]),
    }
    return {
        "name": f"lease-{name}-head",
        "command": [*_ray(places), "--head", *_options(options | _node(node, addresses[f"lease-{name}"]))],
        "environment": environment,
        "health": {"tcp": port["gcs"], "timeout": START},
        "version": "1",
        "scratch": str(_scratch(name, places)),
        # Ray does not start beside it while a worker of a head that died still lives, which is a minute.
        "stale": [str(_scratch(name, places) / "ray_current_cluster")],
    }


def _worker(
    name: str, cluster: LeasedClusterSpec, number: int, places: Places, numbers: Numbers, addresses: Mapping[str, str]
) -> Plain:
    port = {each: numbers[_port(name, f"worker-{number}", each)] for each in NODE_PORTS}
    options = {"address": _address(name, numbers, addresses), "num-cpus": cluster.cpus, "num-gpus": cluster.gpus}
    return {
        "name": f"lease-{name}-worker-{number}",
        "command": [*_ray(places), *_options(options | _node(port, addresses[f"lease-{name}"]))],
        "environment": _environment(name, places, numbers, addresses),
        "health": {"tcp": port["node_manager"], "timeout": START},
        "version": "1",
    }


def _notebook(name: str, places: Places, numbers: Numbers, addresses: Mapping[str, str]) -> Plain:
    process = f"lease-{name}-notebook"
    return notebooks.process(
        process,
        beside=folder(places, name),
        scratch=_scratch(name, places, "n"),
        python=places.python,
        settings=places.file(process, "jupyter.py"),
        port=numbers[_port(name, "notebook", "http")],
        environment=_environment(name, places, numbers, addresses),
    )


def _saver(name: str, places: Places) -> Plain:
    """It writes beside the workspace, never in it, so it does not carry the tag of those that are frozen."""
    return {
        "name": f"lease-{name}-saver",
        "command": [
            places.python,
            "-m",
            "stackyard.evacuation",
            "watch",
            str(folder(places, name) / "evacuation.json"),
        ],
        "environment": {},
        "folder": str(folder(places, name)),
        "health": {"timeout": START},
    }


def _environment(name: str, places: Places, numbers: Numbers, addresses: Mapping[str, str]) -> dict[str, str]:
    beside = folder(places, name)
    return {
        "STACKYARD_CLUSTER": f"{places.stack_id}/{name}",
        "STACKYARD_WORKSPACE": str(beside / "workspace"),
        "RAY_ADDRESS": _address(name, numbers, addresses),
        "RAY_AUTH_TOKEN_PATH": str(beside / "ray-token"),
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        # A person's script finds the modules beside it; what we start ourselves says -P.
        "PYTHONSAFEPATH": "",
    }


def _node(port: Mapping[str, int], address: str) -> Plain:
    return {
        "node-ip-address": address,
        "node-manager-port": port["node_manager"],
        "object-manager-port": port["object_manager"],
        "dashboard-agent-listen-port": port["agent_http"],
        "dashboard-agent-grpc-port": port["agent_grpc"],
        "metrics-export-port": port["metrics"],
        "runtime-env-agent-port": port["runtime_env"],
        "object-store-memory": OBJECT_STORE,
    }


def _ray(places: Places) -> list[str]:
    return [places.python, "-P", "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]


def _options(options: Mapping[str, Any]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


def _address(name: str, numbers: Numbers, addresses: Mapping[str, str]) -> str:
    return f"{addresses[f'lease-{name}']}:{numbers[_port(name, 'head', 'gcs')]}"


def _dashboard(name: str, numbers: Numbers, addresses: Mapping[str, str]) -> str:
    return f"http://{addresses[f'lease-{name}']}:{numbers[_port(name, 'head', 'dashboard')]}"


def _scratch(name: str, places: Places, kind: str = "l") -> Path:
    """Ray's session, or the notebook's: by a short name, since paths of sockets end at 107 bytes."""
    return places.runtime / f"{kind}{hashlib.sha256(json.dumps(name).encode()).hexdigest()[:6]}"


def _port(name: str, process: str, port: str) -> str:
    return f"lease-{name}-{process}-{port}"
