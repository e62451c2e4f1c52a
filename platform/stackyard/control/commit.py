"""Which commit the code came from, for lineage; no git, or no repository, is a fact too and not an error."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any


def commit(folder: Path) -> dict[str, Any]:
    """`commit` (40 hex digits or None) and `dirty` (whether tracked files differ) of the repository at `folder`."""
    head = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": head, "dirty": None if changes is None else bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
