"""What runs of a cluster, since when, at which versions, and where its kubeconfig and logs are."""

from __future__ import annotations

import json
from typing import Any

from cluster import api, cgroups, folders, lock, processes, profiles
from cluster.folders import Home

_SHOWN_VERSIONS = ("kubernetes", "etcd", "coredns", "kuberay", "kwok")


def facts(home: Home) -> dict[str, Any]:
    """Everything known of it now. `running` is whether its API server answers as ready."""
    record = profiles.record(home)
    if not record:
        return {"profile": home.profile, "there": False, "running": False}
    ours = processes.by_inner_number(home.tag) if home.profile == folders.NODE else None
    known = lock.read().modules
    client = api.Client(home) if home.kubeconfig.exists() else None
    nodes = (client.items("/api/v1/nodes") if client else None) or []
    pods = (client.items("/api/v1/pods") if client else None) or []
    return {
        "profile": home.profile,
        "there": True,
        "running": bool(client and client.ready()),
        "kubeconfig": str(home.kubeconfig),
        "logs": str(home.logs),
        "addresses": record.get("block", f"127.0.0.1:{record.get('port')}"),
        "kubectl": str(profiles.kubectl(home)),
        "versions": {name: known[name].version for name in _SHOWN_VERSIONS if _has(home, name)},
        "daemons": {name: _seconds(home, name, ours) for name in _daemons(home)},
        "nodes": {node["metadata"]["name"]: _is_ready(node) for node in nodes},
        "pods": len(pods),
        "memory_bytes": cgroups.memory_bytes(cgroups.of(home.name)) if home.profile == folders.NODE else None,
    }


def shown(found: dict[str, Any]) -> list[str]:
    """The same, for people."""
    if not found["there"]:
        return [f"{found['profile']}: no cluster"]
    running = "runs" if found["running"] else "does not answer"
    ready = sum(found["nodes"].values())
    lines = [
        f"{found['profile']}: {running}, {ready} of {len(found['nodes'])} nodes ready, {found['pods']} pods",
        f"  export KUBECONFIG={found['kubeconfig']}",
        f"  kubectl     {found['kubectl']}",
        f"  addresses   {found['addresses']}",
        f"  logs        {found['logs']}",
        f"  versions    {', '.join(f'{name} {version}' for name, version in found['versions'].items())}",
    ]
    if found["memory_bytes"]:
        lines.append(f"  memory      {found['memory_bytes'] / 1e9:.1f} GB, daemons and pods")
    for name, seconds in found["daemons"].items():
        lines.append(f"  {name:<26}{'not there' if seconds is None else f'for {_long(seconds)}'}")
    return lines


def as_json(found: dict[str, Any]) -> str:
    """The same, for programs."""
    return json.dumps(found, indent=1)


def _has(home: Home, module: str) -> bool:
    other = {folders.NODE: "kwok", folders.KWOK: "coredns"}
    return module != other[home.profile]


def _daemons(home: Home) -> list[str]:
    folder = home.settings / "daemons"
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def _seconds(home: Home, name: str, inner: dict[int, int] | None) -> float | None:
    """How long a daemon has been there; None when it is not."""
    try:
        number = int((home.pids / name).read_text())
    except (OSError, ValueError):
        return None
    pid = number if inner is None else inner.get(number)
    return processes.started(pid) if pid and processes.alive(pid) else None


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = node["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _long(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
