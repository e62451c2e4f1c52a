"""The serving cluster's own Ray head, as one child process, and its REST API.

Ray listens where it pleases, believes whoever connects unless told otherwise, and joins strangers' clusters:
so every port and address is fixed, a token is always asked for, and the session lies in a folder nobody else enters.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from stackyard.serving.settings import Settings
from stackyard.store.keys import read_private

OBJECT_STORE_BYTES = 80 << 20
"""Ray's least: predictions never pass the object store."""


class ClusterError(Exception):
    """Ray or Serve did not come up, or is gone."""


def environment(settings: Settings) -> dict[str, str]:
    """What Ray's processes, replicas included, are started with."""
    ports = settings.ports
    found = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(settings.token_path),
        "RAY_USAGE_STATS_ENABLED": "0",
        "DO_NOT_TRACK": "1",
        "RAY_DEDUP_LOGS": "0",
        "RAY_ROTATION_MAX_BYTES": str(8 << 20),
        "RAY_ROTATION_BACKUP_COUNT": "2",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
        "OMP_NUM_THREADS": "1",
        "POLARS_MAX_THREADS": "1",
    }
    if ports.dashboard_metrics:
        found["DASHBOARD_METRIC_PORT"] = str(ports.dashboard_metrics)
    if ports.autoscaler_metrics:
        found["AUTOSCALER_METRIC_PORT"] = str(ports.autoscaler_metrics)
    return {**os.environ, **found}


def command(settings: Settings) -> list[str]:
    """The `ray start` of the head."""
    ports, address = settings.ports, settings.node_address
    options: dict[str, object] = {
        "node-ip-address": address,
        "port": ports.gcs,
        "node-manager-port": ports.node_manager,
        "object-manager-port": ports.object_manager,
        "ray-client-server-port": ports.client,
        "include-dashboard": "true",
        "dashboard-host": address,
        "dashboard-port": ports.dashboard,
        "dashboard-agent-listen-port": ports.agent_http,
        "dashboard-agent-grpc-port": ports.agent_grpc,
        "metrics-export-port": ports.metrics,
        "num-cpus": 1,
        "num-gpus": 0,
        "object-store-memory": OBJECT_STORE_BYTES,
        "temp-dir": settings.runtime,
    }
    if ports.runtime_env_agent:
        options["runtime-env-agent-port"] = ports.runtime_env_agent
    entry = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    return entry + [f"--{name}={value}" for name, value in options.items()]


def start(settings: Settings) -> subprocess.Popen[bytes]:
    """Start the head in a fresh session folder (0700)."""
    shutil.rmtree(settings.runtime, ignore_errors=True)
    settings.runtime.mkdir(parents=True, mode=0o700)
    os.chmod(settings.runtime, 0o700)
    return subprocess.Popen(command(settings), env=environment(settings), stdin=subprocess.DEVNULL)


class Api:
    """Serve's REST API on the dashboard, with the token."""

    def __init__(self, settings: Settings) -> None:
        token = read_private(settings.token_path).decode().strip()
        self._client = httpx.Client(
            base_url=f"http://{settings.node_address}:{settings.ports.dashboard}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
            trust_env=False,  # a proxy of the environment has no business between two loopback addresses
        )

    def up(self) -> bool:
        """Whether the dashboard answers."""
        try:
            return self._client.get("/api/version", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def put(self, document: dict[str, Any]) -> None:
        """Deploy `document`. Raises ClusterError."""
        try:
            answer = self._client.put("/api/serve/applications/", json=document, timeout=120)
        except httpx.HTTPError as error:
            raise ClusterError(f"Serve cannot be told what to deploy: {error!r}") from None
        if answer.status_code != 200:
            raise ClusterError(f"Serve refused what it was told to deploy: {answer.text[:2000]}")

    def shut_down(self, seconds: float) -> bool:
        """Have Serve stop every replica in good order; False when it did not within `seconds`."""
        try:
            return self._client.delete("/api/serve/applications/", timeout=seconds).status_code == 200
        except httpx.HTTPError:
            return False

    def details(self) -> dict[str, Any]:
        """What Serve says of itself. Raises ClusterError."""
        try:
            answer = self._client.get("/api/serve/applications/", timeout=10)
            answer.raise_for_status()
            return answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ClusterError(f"Serve does not answer: {error!r}") from None

    def running(self) -> bool:
        """Whether everything deployed runs as it was last told to. Raises ClusterError."""
        applications = self.details().get("applications", {})
        return bool(applications) and all(found.get("status") == "RUNNING" for found in applications.values())


def state(details: dict[str, Any]) -> str:
    """One line from Serve's details: the application's and each deployment's status, with their messages."""
    parts: list[str] = []
    for application in details.get("applications", {}).values():
        parts.append(_status("application", application))
        parts += [_status(name, entry) for name, entry in application.get("deployments", {}).items()]
    return "; ".join(parts) or "no application"


def _status(name: str, entry: dict[str, Any]) -> str:
    message = " ".join(str(entry.get("message", "")).split())[:400]
    return f"{name} {entry.get('status', 'unknown')}" + (f" ({message})" if message else "")


def wait(condition: Callable[[], bool], alive: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until `condition` holds. Raises ClusterError after `seconds`, or when `alive` no longer holds."""
    until = time.monotonic() + seconds
    while not condition():
        if not alive():
            raise ClusterError(f"Ray ended before {what}")
        if time.monotonic() > until:
            raise ClusterError(f"{what}: not within {seconds:g} s")
        time.sleep(0.1)


def session_logs(runtime: Path) -> Path:
    """Where Ray writes its logs."""
    return runtime / "session_latest" / "logs"
