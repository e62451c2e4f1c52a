"""What belongs to a saved version besides the workspace: what is installed, which jobs ran, what people typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

JOB_LOGS = ("session_*/logs/job-driver-*.log", "session_*/logs/worker-*.out", "session_*/logs/worker-*.err")
"""What jobs and their workers print, in Ray's session; the rest of its logs is of Ray itself, and never still."""


def wanted(*, python: str, dashboard: str, token: Path, session: Path, notebook: Path | None) -> dict[str, Any]:
    """For the saver, by name. `dashboard` is Ray's URL, `session` the folder of its sessions, `notebook` that of what
    people set and typed in JupyterLab."""
    found: dict[str, Any] = {
        "environment": {"freeze": python},
        "ray-jobs": {"jobs": dashboard, "token": str(token)},
        "ray-logs": {"folder": str(session), "names": list(JOB_LOGS), "keep": True},
    }
    return found if notebook is None else found | {"notebook": {"folder": str(notebook)}}
