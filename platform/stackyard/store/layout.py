"""Where everything lies in the store: every key is spelled here and nowhere else."""

from __future__ import annotations


def snapshot_manifest(digest: str) -> str:
    """The manifest of a snapshot; its sha256 is the snapshot's digest."""
    return f"snapshots/{digest}/manifest.json"


def snapshot_part(digest: str, name: str) -> str:
    """One Parquet file of a snapshot, named in its manifest."""
    return f"snapshots/{digest}/{name}"


def code_archive(digest: str) -> str:
    """The frozen code of a project (zip); `digest` is its sha256."""
    return f"code/{digest}.zip"


def bundle_file(digest: str, name: str) -> str:
    """One file of a bundle; `manifest.json` names the others, and its sha256 is the bundle's digest."""
    return f"bundles/{digest}/{name}"


def release(model: str, number: int) -> str:
    """The `number`th Release of a model, from 1; create-only."""
    return f"releases/{model}/{number:08d}.json"


def run(run_id: str, name: str) -> str:
    """A file of one training run: `intent.json`, `result.json`, checkpoints."""
    return f"runs/{run_id}/{name}"


def predictions(model: str, day: str, name: str) -> str:
    """One Parquet file of logged predictions; `day` is YYYY-MM-DD (UTC)."""
    return f"predictions/{model}/{day}/{name}"


def labels(model: str, day: str, name: str) -> str:
    """One Parquet file of labels; `day` (UTC) is that of their arrival."""
    return f"labels/{model}/{day}/{name}"


def evidence(model: str, day: str, name: str) -> str:
    """A summary of the predictions of one day."""
    return f"evidence/{model}/{day}/{name}"


def gate(model: str, run_id: str) -> str:
    """What the gates said of the candidate that run `run_id` made; create-only."""
    return f"gates/{model}/{run_id}.json"


def wish(model: str, name: str) -> str:
    """A person's signed wish; create-only."""
    return f"inbox/{model}/{name}.json"


def approval(model: str, run_id: str, name: str) -> str:
    """The signature of the approver `name` for the candidate of run `run_id`; create-only."""
    return f"approvals/{model}/{run_id}/{name}.json"


def audit(model: str, number: int) -> str:
    """The `number`th entry of a model's audit log, from 1; create-only."""
    return f"audit/{model}/{number:08d}.json"


def workspace_pack(cluster: str, digest: str) -> str:
    """Pieces of the content of a leased cluster's workspaces; `digest` is the sha256 of the stored bytes."""
    return f"workspaces/{cluster}/packs/{digest[:2]}/{digest}"


def workspace_version(cluster: str, number: int) -> str:
    """The signed manifest of the `number`th version of a workspace, from 1; create-only."""
    return f"workspaces/{cluster}/versions/{number:08d}.json"


def receipt(cluster: str, instance: str, generation: int, number: int) -> str:
    """The `number`th receipt, from 1, for what one generation of an instance's workspace held; create-only."""
    return f"receipts/{cluster}/{instance}-{generation}-{number:04d}.json"


def discard(cluster: str, instance: str, generation: int, number: int) -> str:
    """The `number`th consent, from 1, to lose one generation of an instance's workspace; create-only."""
    return f"discards/{cluster}/{instance}-{generation}-{number:04d}.json"


def certificate_name(subject: str, number: int) -> str:
    """What the `number`th certificate of a subject is called, from 1: `stack-0001`."""
    return f"{subject}-{number:04d}"


def certificate(stack_id: str, subject: str, number: int) -> str:
    """The `number`th certificate of a stack (`stack`) or of an instance of a leased cluster of it; create-only."""
    return f"certificates/{stack_id}/{certificate_name(subject, number)}.json"
