"""Control groups of a node's own, under which all of its pods' lie: made before it starts, gone after it ended.

With version 1 there is a tree for each controller, and ours lie below our own groups. With version 2 there is one, and
a group that holds processes may not have children with controllers: so ours lies below the root.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import NamedTuple

MOUNT = Path("/sys/fs/cgroup")
_NEEDED = ("cpu", "cpuset", "io", "memory", "pids")
_GONE_SECONDS = 10.0


class Groups(NamedTuple):
    """The folders to make, one a hierarchy."""

    version: int
    folders: tuple[Path, ...]


def plan(name: str, membership: str, mounts: str, unified: bool) -> Groups:
    """Where groups called `name` belong, from /proc/self/cgroup and /proc/self/mountinfo."""
    if unified:
        return Groups(2, (MOUNT / name,))
    found = []
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        mount = _mounted(controllers, mounts)
        if mount:
            found.append(mount / path.lstrip("/") / name)
    return Groups(1, tuple(found))


def of(name: str) -> Groups:
    """The plan for this machine."""
    unified = (MOUNT / "cgroup.controllers").exists()
    return plan(name, Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text(), unified)


def make(groups: Groups) -> list[str]:
    """Make them. Returns the controllers that had to be allowed below the root, to be taken back at the end."""
    allowed = []
    if groups.version == 2:
        control = MOUNT / "cgroup.subtree_control"
        there, before = (MOUNT / "cgroup.controllers").read_text().split(), control.read_text().split()
        for controller in (one for one in _NEEDED if one in there and one not in before):
            control.write_text(f"+{controller}")
            allowed.append(controller)
    for folder in groups.folders:
        folder.mkdir(exist_ok=True)
        # A new group of version 1 has neither processors nor memory nodes of its own, and nobody can enter it.
        for name in ("cpuset.cpus", "cpuset.mems"):
            own, parent = folder / name, folder.parent / name
            if groups.version == 1 and own.exists() and not own.read_text().strip():
                own.write_text(parent.read_text())
    return allowed


def remove(groups: Groups, allowed: list[str]) -> list[Path]:
    """Remove them with all below, and take back what `make` allowed. Returns what would not go in time."""
    end = time.monotonic() + _GONE_SECONDS
    left = [folder for folder in groups.folders if not _emptied(folder)]
    while left and time.monotonic() < end:
        time.sleep(0.1)
        left = [folder for folder in left if not _emptied(folder)]
    for controller in allowed:
        # Somebody else may have come to use it meanwhile.
        with contextlib.suppress(OSError):
            (MOUNT / "cgroup.subtree_control").write_text(f"-{controller}")
    return left


def memory_bytes(groups: Groups) -> int | None:
    """What all of the node takes now, pods' files in memory included."""
    for folder in groups.folders:
        for name in ("memory.current", "memory.usage_in_bytes"):
            with contextlib.suppress(OSError, ValueError):
                return int((folder / name).read_text())
    return None


def _emptied(folder: Path) -> bool:
    for root, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(root)
    return not folder.exists()


def _mounted(controllers: str, mounts: str) -> Path | None:
    """Where the hierarchy of these controllers is mounted; nothing between the mount and its root, or we skip it."""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        root, point = left.split(" ")[3:5]
        if root != "/":
            continue
        if (
            controllers
            and kind == "cgroup"
            and set(controllers.split(",")) <= set(options.replace(" ", ",").split(","))
        ):
            return Path(point)
        if not controllers and kind == "cgroup2":
            return Path(point)
    return None
