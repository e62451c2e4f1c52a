"""Which git repositories hold work that exists nowhere else. They are saved like any folder; this names them.

Git is asked without locks, hooks and helpers, and with a time limit: a repository may be large, broken or strange.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stackyard.evacuation.errors import shown

SECONDS = 20.0
_CAREFUL = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.pager=cat")


@dataclass(frozen=True)
class Repository:
    """What is only here. None: git could not say."""

    path: str
    uncommitted: int | None
    """Changed and untracked files."""
    unpushed: int | None
    """Commits of local branches that no remote branch has."""
    stashed: int | None


def look(workspace: Path, folders: Iterable[bytes]) -> list[Repository]:
    """The repositories among `folders` (relative) that hold work of their own, or that git cannot read."""
    found = []
    for folder in folders:
        place = os.path.join(os.fsencode(workspace), folder)
        changed = _lines(place, "status", "--porcelain", "--untracked-files=all", "-z")
        ahead = _lines(place, "log", "--branches", "--not", "--remotes", "--format=%h", "-z")
        stashed = _lines(place, "stash", "list", "-z")
        if (changed, ahead, stashed) != (0, 0, 0):
            found.append(Repository(shown(folder), changed, ahead, stashed))
    return found


def _lines(place: bytes, *arguments: str) -> int | None:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        asked = subprocess.run(
            ["git", *_CAREFUL, "-C", place, *arguments],
            capture_output=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.count(b"\0") if asked.returncode == 0 else None
