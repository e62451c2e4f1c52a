"""What the serving processes are told when they start: one JSON file, written by whoever supervises them.

The file is read again on SIGHUP; what can change in place (replica counts) does, the rest rolls the replicas.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

NOTICE_SECONDS = 1.5
"""How long HAProxy may take to see a failing health check: two checks of 500 ms, and some slack."""


class _Plain(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Replicas(_Plain):
    """How many replicas, and the load each should carry."""

    min: int = 2
    max: int = 4
    target_load: float = 8.0
    """Requests in progress per replica that autoscaling aims at."""


class Limits(_Plain):
    """The serving part of the spec in plain numbers: seconds, bytes, rows."""

    replicas: Replicas = Replicas()
    queue: int = 256
    deadline: float = 1.0
    drain: float = 10.0
    body_limit: int = 64 << 10
    rows_limit: int = 256


class Ports(_Plain):
    """The fixed ports of the serving cluster's Ray head."""

    gcs: int
    dashboard: int
    agent_http: int
    agent_grpc: int
    client: int
    metrics: int
    node_manager: int = 0
    object_manager: int = 0
    runtime_env_agent: int = 0
    dashboard_metrics: int = 0
    autoscaler_metrics: int = 0


class Settings(_Plain):
    """Everything the `cluster` process needs; paths are absolute."""

    stack_id: str
    model: str
    store: str
    """Folder or URL of the artifact store."""
    trusted_keys: tuple[str, ...]
    """Public keys (base64) whose Releases are believed."""
    cache: Path
    """Verified bundles and the last Release; survives restarts, may vanish."""
    spool: Path
    """Prediction rows that are not yet in the store; must survive restarts."""
    runtime: Path
    """Ray's session folder; short, since sockets lie below it."""
    node_address: str
    ports: Ports
    token_path: Path
    replica_ports: tuple[int, ...] = Field(min_length=1)
    serving: Limits = Limits()
    log_folder: Path
    clock: Path | None = None
    """The file of a virtual clock; absent: the machine's own time."""
    labels_token_path: Path | None = None
    """The token (0600) that `POST /labels` and `POST /flush` ask for; absent: both are refused."""
    ready_file: Path | None = None
    """Where the sha256 of this file goes once Serve runs what it says; whoever supervises waits for that."""

    @classmethod
    def read(cls, path: Path) -> Settings:
        """The settings in `path`. Raises OSError or ValueError."""
        return cls.model_validate(json.loads(path.read_bytes()))

    def replica_arguments(self) -> dict[str, object]:
        """What a replica is started with: a change here rolls the replicas, so replica counts are not in it."""
        return {
            "model": self.model,
            "store": self.store,
            "trusted_keys": list(self.trusted_keys),
            "cache": str(self.cache),
            "spool": str(self.spool),
            "ports": list(self.replica_ports),
            "clock": None if self.clock is None else str(self.clock),
            "labels_token_path": None if self.labels_token_path is None else str(self.labels_token_path),
            "limits": self.serving.model_dump(mode="json", exclude={"replicas"}),
        }
