"""A cluster's processes, found by the tag in their environment: a number in a file may be old, or somebody else's."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

_ENDED_SECONDS = 20.0


def tagged(tag: str) -> list[int]:
    """All processes with `tag` (NAME=value) in the environment they began with."""
    wanted = tag.encode()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if wanted in Path("/proc", entry, "environ").read_bytes().split(b"\0"):
                    found.append(int(entry))
    return found


def first_of_namespace(tag: str) -> int | None:
    """The tagged process that is PID 1 of a namespace one below ours, as this machine numbers it."""
    return next((pid for pid in tagged(tag) if _numbers(pid)[1:] == ["1"]), None)


def end(pids: list[int]) -> bool:
    """Kill them; whether all are gone in time."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    limit = time.monotonic() + _ENDED_SECONDS
    while any(alive(pid) for pid in pids):
        if time.monotonic() > limit:
            return False
        time.sleep(0.05)
    return True


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def runs(pid: int, word: str) -> bool:
    """Whether an argument of its command line ends with `word`."""
    try:
        return any(one.endswith(word.encode()) for one in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))
    except OSError:
        return False


def by_inner_number(tag: str) -> dict[int, int]:
    """Tagged processes: the number that each has in its own namespace -> the one it has here."""
    return {int(numbers[-1]): pid for pid in tagged(tag) if (numbers := _numbers(pid))}


def started(pid: int) -> float | None:
    """How many seconds ago it began."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return None
    return uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _numbers(pid: int) -> list[str]:
    """Its number in each namespace, from ours inward."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except OSError:
        return []
    return next((line.split()[1:] for line in lines if line.startswith("NSpid:")), [])
