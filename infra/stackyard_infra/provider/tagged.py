"""Everything a stack runs, found by the tag in its environment: Ray daemonises, so pid trees are not enough.

Nor is the tag: some of Ray's processes write their title over their whole environment. So a process belongs to the
nearest of itself and its ancestors that has a tag; and one that has none, and no living ancestor with one, belongs to
the stack in whose runtime folder it holds files. Never found: the caller itself and its ancestors.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

STACK_TAG = "STACKYARD_STACK_ID"
PROCESS_TAG = "STACKYARD_PROCESS"
SHARED_MEMORY = Path("/dev/shm")


def find(stack_id: str, process: str | None = None) -> list[psutil.Process]:
    """All live processes of a stack; or those of one named process of it, and those that are nobody's any more."""
    own = os.getpid()
    protected = {own, *(parent.pid for parent in psutil.Process(own).parents())}
    everyone = {p.pid: p for p in psutil.process_iter(["ppid", "status"]) if p.info["status"] != psutil.STATUS_ZOMBIE}  # type: ignore[attr-defined]
    tags = {pid: found for pid in everyone if (found := tags_of(pid))}
    members = []
    for pid, candidate in everyone.items():
        if pid in protected:
            continue
        nearest = _nearest(pid, everyone, tags)
        if nearest is None:
            belongs = _holds_files_of(pid, stack_id)
        else:
            belongs = nearest[STACK_TAG] == stack_id and process in (None, nearest.get(PROCESS_TAG))
        if belongs:
            members.append(candidate)
    return members


def end(
    stack_id: str, process: str | None = None, *, grace: float = 5.0, known: Iterable[psutil.Process] = ()
) -> list[str]:
    """End what `find` finds, and `known`, which it may no longer see: TERM, `grace` seconds, KILL.

    Returns what still lives, as `pid command` lines.
    """
    alive = _united(known, find(stack_id, process))
    if grace > 0:
        _signal(alive, "terminate")
        _, alive = psutil.wait_procs(alive, timeout=grace)
    for _ in range(5):  # whatever was being started meanwhile is found by the next look
        alive = _united(alive, find(stack_id, process))
        if not alive:
            return []
        _signal(alive, "kill")
        _, alive = psutil.wait_procs(alive, timeout=2)
    return [_describe(survivor) for survivor in _united(alive, find(stack_id, process))]


def tags_of(pid: int) -> dict[str, str]:
    """Our tags in a process' environment; {} when it has none or is not ours to read.

    Read whole: what psutil gives ends at the first hole, and a title written over the beginning leaves one.
    """
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = (entry.decode(errors="replace").partition("=") for entry in entries)
    found = {name: value for name, _, value in pairs if name in (STACK_TAG, PROCESS_TAG)}
    return found if STACK_TAG in found else {}


def carrying(entry: str) -> list[psutil.Process]:
    """All live processes with `NAME=value` in their environment, but the caller and its ancestors."""
    own = psutil.Process()
    protected = {own.pid, *(parent.pid for parent in own.parents())}
    wanted, found = entry.encode(), []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            carried = wanted in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
            if carried and process.pid not in protected and _lives(process):
                found.append(process)
    return found


def started(pid: int) -> int | None:
    """When a live process started, in ticks since boot: with its pid, an identity. None where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def listening(processes: Iterable[psutil.Process]) -> set[int]:
    """TCP ports that these processes listen on."""
    ports: set[int] = set()
    for process in processes:
        try:
            connections = process.net_connections("tcp")
        except psutil.Error:
            continue
        ports |= {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN and c.laddr}
    return ports


def shared_memory(processes: Iterable[psutil.Process]) -> set[Path]:
    """Files in /dev/shm that these processes hold, so that they can be removed after a kill."""
    held: set[Path] = set()
    for process in processes:
        try:
            lines = Path(f"/proc/{process.pid}/maps").read_text(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            where = line.find(f"{SHARED_MEMORY}/")
            if where >= 0 and not line.endswith("(deleted)"):
                held.add(Path(line[where:]))
    return held


def _nearest(
    pid: int, everyone: Mapping[int, psutil.Process], tags: Mapping[int, dict[str, str]]
) -> dict[str, str] | None:
    seen: set[int] = set()
    while pid in everyone and pid not in seen:
        if pid in tags:
            return tags[pid]
        seen.add(pid)
        pid = everyone[pid].info["ppid"]  # type: ignore[attr-defined]
    return None


def _holds_files_of(pid: int, stack_id: str) -> bool:
    runtime = f"/tmp/sy-{os.getuid()}-{stack_id}/"
    try:
        with os.scandir(f"/proc/{pid}/fd") as files:
            return any(os.readlink(file.path).startswith(runtime) for file in files)
    except OSError:
        return False


def _united(*groups: Iterable[psutil.Process]) -> list[psutil.Process]:
    everyone = {process.pid: process for group in groups for process in group}
    return [process for process in everyone.values() if _lives(process)]


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _signal(processes: Iterable[psutil.Process], verb: str) -> None:
    for process in processes:
        try:
            getattr(process, verb)()
        except psutil.Error:
            continue


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:80]}"
    except psutil.Error:
        return str(process.pid)
