"""Which commit and which lock of dependencies the code came from, for lineage; to have none is a fact too, no error."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any


def commit(folder: Path) -> dict[str, Any]:
    """`commit` (40 hex digits or None) and `dirty` (whether tracked files differ) of the repository at `folder`."""
    head = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": head, "dirty": None if changes is None else bool(changes)}


def lock(folder: Path) -> dict[str, Any]:
    """`lock`: sha256 of the checkout's `requirements.lock`, or None without one."""
    try:
        return {"lock": hashlib.sha256((folder / "requirements.lock").read_bytes()).hexdigest()}
    except OSError:
        return {"lock": None}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
