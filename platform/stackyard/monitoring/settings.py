"""What the metrics endpoint is told when it starts."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class EndpointSettings(BaseModel):
    """The settings file of `python -m stackyard.monitoring.endpoint`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stack: str
    """The stack's name."""
    model: str
    """The model's name."""
    port: int
    """The loopback port it listens on."""
    replica_ports: list[int]
    """Ports on which replicas may answer `/metrics`."""
    haproxy_metrics: str | None = None
    """Address of HAProxy's own Prometheus page."""
    store: str
    """Folder or URL of the object store."""
    trusted_keys: list[str]
    """Public halves of the release keys."""
    leases: Path | None = None
    """The file with the figures of leased clusters; it may not be there."""
