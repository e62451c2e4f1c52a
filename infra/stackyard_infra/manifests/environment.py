"""What every process of a stack finds in its environment: its tags, Ray's token, nothing that phones home."""

from __future__ import annotations

from stackyard_infra.manifests.places import Places


def environment(places: Places, token_path: str) -> dict[str, str]:
    """The settings common to all processes of one stack."""
    return {
        "STACKYARD_STACK": places.stack,
        "STACKYARD_STACK_ID": places.stack_id,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": token_path,
        "RAY_USAGE_STATS_ENABLED": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        # Libraries leave things here when they are killed; the folder goes with the stack, and its path is short.
        "TMPDIR": str(places.runtime),
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",
    }
