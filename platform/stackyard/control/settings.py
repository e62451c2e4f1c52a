"""What the controller is told when it starts: written by whoever deployed it, read once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict


class ControllerSettings(BaseModel):
    """The settings file of `python -m stackyard.control`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stack: str
    """The stack's name."""
    stack_id: str
    """The stack's id, which tags every process."""
    model: str
    """The model's name: the project's."""
    store: str
    """Folder or URL of the object store."""
    database: str
    """SQLAlchemy URL of the decisions and intents."""
    mlflow: str | None = None
    """Address of MLflow, a projection for people; the loop works without it."""
    signing_key: Path
    """The release key (0600), the controller's alone."""
    project: dict[str, Any]
    """The project spec in plain form, without `serving`, which is none of the controller's business."""
    project_folder: Path
    """Where the project's code lies at training time."""
    checkout: Path
    """The checkout, whose commit goes into lineage."""
    runtime: Path
    """Short 0700 folder for locks and Ray sessions."""
    cache: Path
    """Local copies of snapshots and code; may vanish."""
    log_folder: Path
    """Where the logs of runs go."""
    token_path: Path
    """The Ray token (0600)."""
    node_address: str
    """The loopback address of training clusters (127.0.0.N)."""
    secrets_folder: Path | None = None
    """Folder of 0600 files, one a secret, that the data source or alerts may need; absent when there are none."""
    alert_secrets: tuple[str, ...] = ()
    """Names of those that say where trouble is told; a training run never sees them."""
    clock: Path | None = None
    """The file of a virtual clock; absent: the machine's own time."""
    operator_keys: tuple[str, ...] = ()
    """Public keys (base64) whose wishes in the inbox are believed."""
    approvals: dict[str, Any] = {}
    """`required` (how many) and `approvers` (name to public key) of the environment."""
    leases: Path | None = None
    """The folder in which each leased cluster of the stack has its own; it may not be there."""
    facts: dict[str, Any] = {}
    """Facts for lineage that only the deployment knows: the digest of the lowered plan."""
