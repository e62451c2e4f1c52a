"""What a stack, and each leased cluster of it, is expected to have while it is up, and what stays on purpose. Pure.

The provider keeps it beside the stack; when all is gone, a certificate says what of it is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stackyard.spec import StackSpec
from stackyard.spec.leases import LeasedClusterSpec
from stackyard_infra.manifests import leases
from stackyard_infra.manifests.places import Places
from stackyard_infra.manifests.processes import Numbers, Plain

PROCESSES = ("supervisor", "controller", "serving", "haproxy", "metrics", "mlflow")
"""What a stack runs beside its leased clusters."""


def of_stack(spec: StackSpec, places: Places, ports: Numbers, addresses: Mapping[str, str]) -> Plain:
    """Of the whole stack: its leased clusters' ports and addresses are among its own."""
    gone = [places.runtime, places.state / "etc", places.state / "cache", places.state / "leases"]
    return {
        "subject": "stack",
        "store": str(places.store),
        "processes": list(PROCESSES),
        **_listening(ports, addresses),
        "sockets": [places.socket, str(places.runtime / "haproxy.sock")],
        "folders": [str(path) for path in gone],
        "kept": _kept(spec, places),
    }


def of_cluster(
    name: str, cluster: LeasedClusterSpec, places: Places, ports: Numbers, addresses: Mapping[str, str]
) -> Plain:
    """Of one leased cluster; its processes and their folders the provider knows, which runs them."""
    own = set(leases.ports({name: cluster}))
    node = set(leases.addresses({name: cluster}))
    return {
        "subject": "cluster",
        "cluster": name,
        "store": str(places.store),
        **_listening({n: p for n, p in ports.items() if n in own}, {n: a for n, a in addresses.items() if n in node}),
        "folders": [str(leases.folder(places, name))],
        "prefixes": [f"workspaces/{name}/", f"receipts/{name}/", f"discards/{name}/"],
        "kept": [_stays("versions of its workspace, receipts and discards", str(places.store))],
        "hourly_price": cluster.budget.hourly_price or None,
    }


def _listening(ports: Numbers, addresses: Mapping[str, str]) -> Plain:
    return {
        "ports": [{"name": name, "port": port} for name, port in sorted(ports.items())],
        "addresses": [{"name": name, "address": address} for name, address in sorted(addresses.items())],
    }


def _kept(spec: StackSpec, places: Places) -> list[dict[str, str]]:
    state = places.state
    always = [_stays("logs", str(state / "logs"))]
    if not spec.environment.store.keep:
        return always
    lasting = [
        _stays("artifact store", str(places.store)),
        _stays("database of decisions", str(state / "db")),
        _stays("MLflow", str(state / "mlflow")),
        _stays("keys and tokens", str(state / "keys")),
    ]
    return [*lasting, *always]


def _stays(what: str, path: str) -> dict[Any, str]:
    return {"what": what, "path": path}
