"""The writers of a workspace stand still while the last difference is saved, and go on if the gate stays shut.

A process is a writer if the nearest of itself and its ancestors that carries the cluster's tag carries ours, or if it
has no tag anywhere and holds something in the workspace open: Ray's daemons write their titles over their environment.
Never one of these: the caller and its ancestors, and what carries another cluster's tag. Whom we stop is written down
first, so that whoever comes after a crash can let them go; whom somebody else had stopped stays stopped.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from stackyard.evacuation import failpoints
from stackyard.evacuation.cache import release
from stackyard.evacuation.errors import FreezeError
from stackyard.evacuation.settings import SaverSettings

_PATIENCE = 10.0
"""Seconds for all of a process' threads to stand still; one that waits for a disk takes its time."""
_STILL = frozenset("TtZXx")


@dataclass(frozen=True, order=True)
class Process:
    """A process for good: numbers are given again, a number with a start is not."""

    pid: int
    start: int
    """Clock ticks after the machine's own start."""


class Freezer:
    """Stops and lets go the writers of one workspace."""

    def __init__(self, settings: SaverSettings) -> None:
        self._tag, _, self._value = (settings.processes_tag or "").partition("=")
        self._workspace = os.path.realpath(settings.workspace)
        self._record = settings.state / "frozen.json"

    def members(self) -> set[Process]:
        """The writers there are now."""
        return self._found(strangers=True)

    def carriers(self) -> set[Process]:
        """Those of them that carry the cluster's tag, themselves or by their nearest ancestor that has one."""
        return self._found(strangers=False)

    def _found(self, *, strangers: bool) -> set[Process]:
        everyone = _everyone()
        tags = {pid: tag for pid in everyone if (tag := self._tag_of(pid)) is not None}
        spared = _above(os.getpid(), everyone)
        found = set[Process]()
        for pid, (_, _, start) in everyone.items():
            if pid in spared:
                continue
            nearest = _nearest(pid, everyone, tags)
            if nearest == self._value if nearest is not None else strangers and _holds(pid, self._workspace):
                found.add(Process(pid, start))
        return found

    def frozen(self) -> list[Process]:
        """Whom we stopped and who are still there."""
        try:
            noted = json.loads(self._record.read_bytes())
        except (FileNotFoundError, ValueError):
            return []
        if noted.get("boot") != _boot():
            return []
        now = _everyone()
        there = [Process(**each) for each in noted["processes"]]
        return [process for process in there if process.pid in now and now[process.pid][2] == process.start]

    def freeze(self, clock: Callable[[], float] = time.monotonic) -> list[Process]:
        """Stop every writer. Raises FreezeError naming those that do not stand still; then nobody was let go."""
        end = clock() + _PATIENCE
        ours = set(self.frozen())
        while True:
            found = self.members()
            now = _everyone()
            fresh = {each for each in found - ours if now.get(each.pid, ("X", 0, 0))[0] not in _STILL}
            if fresh:
                ours |= fresh
                self._note(ours)
                failpoints.hit("freeze-noted")
            for process in ours:
                _signal(process, signal.SIGSTOP)
            moving = [each for each in found if _moves(each)]
            if not fresh and not moving:
                failpoints.hit("frozen")
                return sorted(ours)
            if clock() > end:
                names = ", ".join(f"{each.pid} ({_name(each.pid)})" for each in moving[:10])
                raise FreezeError(
                    f"these processes write to the workspace and cannot be stopped: {names or 'ever new ones'}"
                )
            time.sleep(0.01)

    def thaw(self) -> list[Process]:
        """Let go whom we stopped, whoever of us it was. Returns them."""
        ours = self.frozen()
        for process in ours:
            _signal(process, signal.SIGCONT)
        failpoints.hit("thawed")
        self._record.unlink(missing_ok=True)
        return ours

    def _note(self, ours: set[Process]) -> None:
        self._record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(
            self._record,
            json.dumps({"boot": _boot(), "processes": [asdict(each) for each in sorted(ours)]}).encode(),
        )

    def _tag_of(self, pid: int) -> str | None:
        if not self._tag:
            return None
        try:
            entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return None
        start = f"{self._tag}=".encode()
        return next(
            (entry[len(start) :].decode(errors="replace") for entry in entries if entry.startswith(start)), None
        )


def write_whole(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, whole or not at all, also when the power fails."""
    try:
        _write_whole(path, data)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        release(path.parent)
        _write_whole(path, data)


def _write_whole(path: Path, data: bytes) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with scratch.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _everyone() -> dict[int, tuple[str, int, int]]:
    """Pid -> (state, parent, start) of every process but the dead."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (seen := _stat(f"/proc/{name}/stat")) is not None and seen[0] not in "ZXx":
            found[int(name)] = seen
    return found


def _stat(path: str) -> tuple[str, int, int] | None:
    try:
        fields = Path(path).read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return (fields[0].decode(), int(fields[1]), int(fields[19])) if len(fields) > 19 else None


def _moves(process: Process) -> bool:
    """Whether a thread of it may still run."""
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{process.pid}/task"):
            seen = _stat(f"/proc/{process.pid}/task/{thread}/stat")
            if seen is not None and seen[0] not in _STILL:
                return True
    return False


def _signal(process: Process, number: signal.Signals) -> None:
    seen = _stat(f"/proc/{process.pid}/stat")
    if seen is not None and seen[2] == process.start:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # whom we may not stop is found moving
            os.kill(process.pid, number)


def _nearest(pid: int, everyone: dict[int, tuple[str, int, int]], tags: dict[int, str]) -> str | None:
    seen = set[int]()
    while pid in everyone and pid not in seen:
        if pid in tags:
            return tags[pid]
        seen.add(pid)
        pid = everyone[pid][1]
    return None


def _above(pid: int, everyone: dict[int, tuple[str, int, int]]) -> set[int]:
    found = {pid}
    while pid in everyone and (pid := everyone[pid][1]) not in found:
        found.add(pid)
    return found


def _holds(pid: int, folder: str) -> bool:
    """Whether it has a file of `folder` open or mapped, or stands in it."""
    inside = f"{folder}/".encode()
    places = [b"/proc/%d/cwd" % pid]
    try:
        places += [b"/proc/%d/fd/%s" % (pid, os.fsencode(name)) for name in os.listdir(f"/proc/{pid}/fd")]
        if b" " + inside in Path(f"/proc/{pid}/maps").read_bytes():
            return True
    except OSError:
        return False
    for place in places:
        with contextlib.suppress(OSError):
            if (os.readlink(place) + b"/").startswith(inside):
                return True
    return False


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "gone"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
