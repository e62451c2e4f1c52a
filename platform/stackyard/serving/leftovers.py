"""Ends what an earlier life of this process left behind.

Ray's processes outlive a killed parent, so everything started here carries the stack's id and the process's name in
its environment. That is not enough: some of Ray's processes write their title over it. Those are known by a tagged
ancestor or, once orphaned, by the files they hold open in the session's folder.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

TAGS = ("STACKYARD_STACK_ID", "STACKYARD_PROCESS")


def tagged(stack_id: str, process: str, runtime: Path | None = None) -> list[psutil.Process]:
    """Live processes that belong to `process` of the stack; never this one or one of its ancestors.

    A process that carries tags belongs where they say; one that carries none belongs where its nearest tagged
    ancestor does, or else, having lost that, to whoever's `runtime` folder it holds files in.
    """
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    parents = {p.pid: p.info["ppid"] for p in psutil.process_iter(["ppid"])}  # type: ignore[attr-defined]
    tags = {pid: found for pid in parents if (found := _tags(pid)) is not None}
    found = []
    for pid in parents.keys() - own:
        nearest = _nearest(pid, parents, tags)
        belongs = nearest == (stack_id, process) if nearest else runtime is not None and _holds(pid, runtime)
        if belongs:
            try:
                candidate = psutil.Process(pid)
                if candidate.status() != psutil.STATUS_ZOMBIE:
                    found.append(candidate)
            except psutil.Error:
                continue
    return found


def end(processes: Iterable[psutil.Process], *, patience: float = 5.0) -> list[psutil.Process]:
    """Ask `processes` to end, then make them; returns those that are still there after another `patience` seconds."""
    alive = list(processes)
    for name in (signal.SIGTERM, signal.SIGKILL):
        for process in alive:
            try:
                process.send_signal(name)
            except psutil.Error:
                continue
        _, alive = psutil.wait_procs(alive, timeout=patience)
        if not alive:
            break
    return alive


def sweep(stack_id: str, process: str, runtime: Path | None = None, *, patience: float = 5.0) -> int:
    """End everything `tagged` finds, until a look around finds nothing; returns how many were ended.

    Raises RuntimeError when something survives SIGKILL.
    """
    ended, until = 0, time.monotonic() + 4 * patience + 20
    while found := tagged(stack_id, process, runtime):
        if time.monotonic() > until:
            raise RuntimeError(f"cannot end {', '.join(str(p.pid) for p in found)}")
        ended += len(found)
        end(found, patience=patience)
        patience = 1.0
    return ended


def _tags(pid: int) -> tuple[str, str | None] | None:
    """(stack, process) of one process; None without tags. Read whole: psutil stops at the hole that a title leaves."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    pairs: dict[str, str] = {}
    for entry in entries:
        name, _, value = entry.decode(errors="replace").partition("=")
        pairs[name] = value
    return (pairs[TAGS[0]], pairs.get(TAGS[1])) if TAGS[0] in pairs else None


def _nearest(
    pid: int, parents: Mapping[int, int], tags: Mapping[int, tuple[str, str | None]]
) -> tuple[str, str | None] | None:
    seen: set[int] = set()
    while pid in parents and pid not in seen:
        if pid in tags:
            return tags[pid]
        seen.add(pid)
        pid = parents[pid]
    return None


def _holds(pid: int, runtime: Path) -> bool:
    try:
        return any(os.readlink(file.path).startswith(f"{runtime}/") for file in os.scandir(f"/proc/{pid}/fd"))
    except OSError:
        return False
