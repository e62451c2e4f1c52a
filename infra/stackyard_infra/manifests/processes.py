"""What each process of the local target is: command line, settings file, probe. Pure, so a plan can be read and tested.

`ports` and `addresses` are those chosen for the stack, `keys` the outputs of the resource Keys.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from stackyard.spec import StackSpec
from stackyard_infra.manifests.places import Places

Plain = dict[str, Any]
Numbers = Mapping[str, int]

REPLICA_PORTS = 16
"""Ports that replicas take turns on: twice the most replicas that a local stack may have, for surge."""

START = 600
"""Seconds a process may take until it is healthy: ten times what a quiet machine needs: a busy one is no error."""

RAY_PORTS = ("gcs", "dashboard", "agent_http", "agent_grpc", "client", "metrics", "node_manager", "object_manager")
RAY_PORTS += ("runtime_env_agent", "dashboard_metrics", "autoscaler_metrics")
"""The ports that each Ray head would else choose by itself or share with its neighbours."""


REPLICAS = [f"replica-{number:02}" for number in range(REPLICA_PORTS)]
PORTS = ["predict", "haproxy-metrics", "metrics", "mlflow", *(f"serving-{name}" for name in RAY_PORTS), *REPLICAS]
"""Every port of a stack, by name."""


def mlflow(places: Places, ports: Numbers) -> Plain:
    """MLflow over SQLite, on loopback, one worker.

    It runs in the state, and its paths are relative to that: in its addresses `?`, `#` and `%` have meanings.
    """
    port = ports["mlflow"]
    command = [places.python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", "sqlite:///mlflow/mlflow.sqlite"]
    command += ["--artifacts-destination", "mlflow/artifacts"]
    command += ["--allowed-hosts", f"127.0.0.1:{port},localhost:{port}"]
    return {
        "command": command,
        "environment": {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        },
        "health": {"http": f"http://127.0.0.1:{port}/health", "timeout": START},
    }


def controller(spec: StackSpec, places: Places, ports: Numbers, addresses: Mapping[str, str], keys: Plain) -> Plain:
    """The reconciler. It is told nothing of `serving`: a change there is none of its business.

    What the closed loop watches, proves and rolls out (`monitoring` to `alerts`) is told to it alone.
    """
    settings = {
        "stack": places.stack,
        "stack_id": places.stack_id,
        "model": spec.project.name,
        "store": str(places.store),
        "database": places.database,
        "mlflow": f"http://127.0.0.1:{ports['mlflow']}",
        "signing_key": keys["signing_key"],
        "project": _project(spec),
        "project_folder": str(spec.project_folder),
        "checkout": str(places.checkout),
        "runtime": str(places.runtime),
        "cache": str(places.state / "cache"),
        "log_folder": str(places.state / "logs"),
        "token_path": keys["token_path"],
        "node_address": addresses["training"],
        "secrets_folder": places.file("controller", "secrets") if secrets(spec) else None,
        "alert_secrets": alert_secrets(spec),
        "clock": clock(spec, places),
        "operator_keys": keys["operator_keys"],
        "approvals": spec.environment.approvals.model_dump(mode="json"),
        "leases": str(places.state / "leases"),
        "facts": {"plan": plan_digest(spec)},
    }
    return _module(places, "controller", "stackyard.control", settings, health={"timeout": START})


def metrics(spec: StackSpec, places: Places, ports: Numbers, keys: Plain) -> Plain:
    """The stack's one Prometheus page."""
    settings = {
        "stack": places.stack,
        "model": spec.project.name,
        "port": ports["metrics"],
        "replica_ports": [ports[name] for name in REPLICAS],
        "haproxy_metrics": f"http://127.0.0.1:{ports['haproxy-metrics']}/metrics",
        "store": str(places.store),
        "trusted_keys": keys["public_keys"],
        "leases": str(places.runtime / "leases.json"),
    }
    health = {"http": f"http://127.0.0.1:{ports['metrics']}/metrics", "timeout": START}
    return _module(places, "metrics", "stackyard.monitoring.endpoint", settings, health=health)


def serving(spec: StackSpec, places: Places, ports: Numbers, addresses: Mapping[str, str], keys: Plain) -> Plain:
    """The Serve cluster; a change of its settings is taken up while it answers."""
    settings = {
        "stack_id": places.stack_id,
        "model": spec.project.name,
        "store": str(places.store),
        "trusted_keys": keys["public_keys"],
        "cache": str(places.state / "cache" / "serving"),
        "spool": str(places.state / "spool"),
        "runtime": str(places.runtime / "s"),
        "node_address": addresses["serving"],
        "ports": {name: ports[f"serving-{name}"] for name in RAY_PORTS},
        "token_path": keys["token_path"],
        "replica_ports": [ports[name] for name in REPLICAS],
        "serving": spec.project.serving.model_dump(mode="json"),
        "log_folder": str(places.state / "logs"),
        "ready_file": str(places.runtime / "serving.ready"),
        "clock": clock(spec, places),
        "labels_token_path": keys["labels_token_path"],
    }
    health = {"acknowledges": str(places.runtime / "serving.ready"), "file": "settings.json", "timeout": START}
    return _module(places, "serving", "stackyard.serving.cluster", settings, health=health)


def haproxy(spec: StackSpec, places: Places, ports: Numbers) -> Plain:
    """The proxy in front of the replicas."""
    limits = spec.project.serving
    settings = {
        "port": ports["predict"],
        "metrics_port": ports["haproxy-metrics"],
        "replica_ports": [ports[name] for name in REPLICAS],
        "socket": str(places.runtime / "haproxy.sock"),
        "body_limit": limits.body_limit,
        "deadline": limits.deadline,
        "queue": limits.queue,
    }
    health = {"tcp": ports["predict"], "timeout": START}
    return _module(places, "haproxy", "stackyard.serving.haproxy", settings, health=health)


def card(spec: StackSpec, places: Places, ports: Numbers, keys: Plain, processes: list[str]) -> Plain:
    """What `stackyard status` and the other commands need to know of a stack."""
    return {
        "stack": places.stack,
        "stack_id": places.stack_id,
        "runtime": str(places.runtime),
        "state": str(places.state),
        "store": str(places.store),
        "model": spec.project.name,
        "public_keys": keys["public_keys"],
        "addresses": addresses_for_people(ports),
        "processes": [{"name": name, "log": places.log(name)} for name in processes],
        "supervisor_socket": places.socket,
        "replica_ports": [ports[name] for name in REPLICAS],
        "database": places.database,
        "operator_key": keys["operator_key"],
        "labels_token_path": keys["labels_token_path"],
        "clock": clock(spec, places),
        "plan": plan_digest(spec),
    }


def clock(spec: StackSpec, places: Places) -> str | None:
    """The file that holds the time, or None for the machine's own."""
    return places.clock if spec.environment.clock == "virtual" else None


def start_of_time(spec: StackSpec) -> str:
    """Where a virtual clock begins: the midnight (UTC) after the first model's data."""
    return f"{spec.project.data.window.end.isoformat()}T00:00:00+00:00"


def alert_secrets(spec: StackSpec) -> list[str]:
    """Names of the secrets that say where trouble is told."""
    alerts, lent = spec.project.alerts, spec.environment.clusters.values()
    told = {name for names in alerts.owners.values() for name in names} | {*alerts.webhooks.values()}
    return sorted(told.union(*(cluster.tell for cluster in lent)))


def secrets(spec: StackSpec) -> dict[str, str]:
    """Every secret that the controller needs, and the field that asks for it."""
    wanted = dict.fromkeys(alert_secrets(spec), "alerts")
    return wanted | dict.fromkeys(spec.project.data.source.secrets, "data.source.secrets")


def addresses_for_people(ports: Numbers) -> dict[str, str]:
    """Where to predict, and where to look."""
    return {
        "predict": f"http://127.0.0.1:{ports['predict']}/predict",
        "metrics": f"http://127.0.0.1:{ports['metrics']}/metrics",
        "mlflow": f"http://127.0.0.1:{ports['mlflow']}",
    }


def plan_digest(spec: StackSpec) -> str:
    """sha256 of what a training run is deployed as, for lineage: project without `serving`, and its environment."""
    environment = spec.environment.model_dump(mode="json", exclude={"overrides", "clusters", "ceiling"})
    lowered = {"project": _project(spec), "environment": environment}
    return hashlib.sha256(_text(lowered).encode()).hexdigest()


def _project(spec: StackSpec) -> Plain:
    return spec.project.model_dump(mode="json", exclude={"serving"})


def _module(places: Places, name: str, module: str, settings: Plain, *, health: Plain) -> Plain:
    return {
        "command": [places.python, "-m", module, places.file(name, "settings.json")],
        "environment": {},
        "files": {"settings.json": _text(settings)},
        "health": health,
    }


def _text(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True)
