"""Everything a stack runs, found by the tag in its environment: Ray daemonises, so pid trees are not enough.

A process belongs to a stack when its environment says so, or when an ancestor's does (Ray rewrites the titles of
its workers over their environment). Never the caller itself or its ancestors.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import psutil

STACK_TAG = "STACKYARD_STACK_ID"
PROCESS_TAG = "STACKYARD_PROCESS"
SHARED_MEMORY = Path("/dev/shm")


def find(stack_id: str, process: str | None = None) -> list[psutil.Process]:
    """All live processes of a stack, or of one named process of it."""
    own = os.getpid()
    protected = {own, *(parent.pid for parent in psutil.Process(own).parents())}
    family: dict[int, psutil.Process] = {}
    for candidate in psutil.process_iter():
        if candidate.pid in protected or not _carries(candidate, stack_id, process):
            continue
        family[candidate.pid] = candidate
    for member in list(family.values()):
        for child in _children(member):
            if child.pid not in protected and not _carries_another(child, stack_id, process):
                family.setdefault(child.pid, child)
    return list(family.values())


def end(stack_id: str, process: str | None = None, *, grace: float = 5.0) -> list[str]:
    """End what `find` finds: TERM, `grace` seconds, KILL. Returns what still lives, as `pid command` lines."""
    first = find(stack_id, process)
    if grace > 0:
        _signal(first, "terminate")
        psutil.wait_procs(first, timeout=grace)
    for _ in range(5):  # whatever was being started meanwhile is found by the next look
        alive = find(stack_id, process)
        if not alive:
            return []
        _signal(alive, "kill")
        psutil.wait_procs(alive, timeout=2)
    return [_describe(survivor) for survivor in find(stack_id, process)]


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


def _carries(process: psutil.Process, stack_id: str, name: str | None) -> bool:
    try:
        environment = process.environ()
    except psutil.Error:
        return False
    return environment.get(STACK_TAG) == stack_id and name in (None, environment.get(PROCESS_TAG))


def _carries_another(process: psutil.Process, stack_id: str, name: str | None) -> bool:
    try:
        environment = process.environ()
    except psutil.Error:
        return False
    if STACK_TAG not in environment:
        return False
    return environment[STACK_TAG] != stack_id or name not in (None, environment.get(PROCESS_TAG))


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


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
