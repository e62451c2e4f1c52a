"""What a cluster's processes did since the last look: used a processor, read or wrote, or slept.

Counted are those that carry its tag and those that have something of the workspace open or stand in it, but not what
the cluster itself consists of: Ray's daemons and idle workers, the notebook's server and the saver turn over all the
time. A shell that waits for its owner uses nothing, and says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stackyard.evacuation.freezing import Freezer
from stackyard.evacuation.settings import SaverSettings
from stackyard.leasing.evidence import Evidence

SHARE = 0.01
"""Of one processor, averaged since the last look, beyond which a process is in use: an idle kernel takes a third."""
LEAST = 0.05
"""Seconds of processor time below which nothing is use, however short the look: five ticks of the kernel's count."""
BYTES = 1 << 20
"""Read and written since the last look beyond which a process is in use, though it hardly computes: a download."""
DAEMONS = (
    "ray/_private/",
    "ray/dashboard/",
    "ray/autoscaler/",
    "ray/core/src/ray/",
    "ray.scripts.scripts",
    "ray::IDLE",
    "ray-dashboard",
    "ray::DashboardAgent",
    "ray::RuntimeEnvAgent",
    "ray::JobSupervisor",
    "ray::_StatsActor",
    "default_worker.py",
    "setup_worker.py",
    "stackyard.evacuation",
    "stackyard.leasing",
)
"""Parts of command lines of what is the cluster's own, or looks after it."""
NAMED = 3
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Mine:
    """A process that may be used by somebody."""

    pid: int
    start: int
    command: str
    seconds: float
    """Of processor time, with those of its children that have ended."""
    moved: int
    """Bytes read and written so far."""

    @property
    def key(self) -> str:
        """It, for good."""
        return f"{self.pid}:{self.start}"


@dataclass(frozen=True)
class Counts:
    """What each had used at one look."""

    boot: str = ""
    uptime: float = 0.0
    of: Mapping[str, tuple[float, int]] = field(default_factory=dict[str, tuple[float, int]])

    @classmethod
    def read(cls, kept: Any) -> Counts | None:
        """What `kept` gave; None for anything else."""
        try:
            return cls(
                str(kept["boot"]), float(kept["uptime"]), {k: (float(a), int(b)) for k, (a, b) in kept["of"].items()}
            )
        except (TypeError, KeyError, ValueError, AttributeError):
            return None

    def kept(self) -> dict[str, Any]:
        """As JSON."""
        return {"boot": self.boot, "uptime": self.uptime, "of": {key: list(each) for key, each in self.of.items()}}


def mine(settings: SaverSettings, own: Sequence[Sequence[str]]) -> list[Mine]:
    """The cluster's processes that are not its own daemons; `own` are command lines of those."""
    commands = {tuple(each) for each in own}
    found = []
    for process in sorted(Freezer(settings).members()):
        seen = _read(process.pid, process.start)
        if seen is not None and tuple(seen[0]) not in commands and not _is_daemon(seen[0]):
            found.append(seen[1])
    return found


def count(found: Sequence[Mine], boot: str, uptime: float) -> Counts:
    """What they have used so far."""
    return Counts(boot, uptime, {each.key: (each.seconds, each.moved) for each in found})


def judge(before: Counts | None, now: Counts, found: Sequence[Mine], *, gap: float) -> Evidence:
    """Whether they were used since the look `before`; a look after more than `gap` seconds counts as use. Pure."""
    if before is None or before.boot != now.boot or not 0 <= now.uptime - before.uptime <= gap:
        return Evidence("processes", "nobody looked for a while, which counts as use", busy=True)
    span = now.uptime - before.uptime
    used = []
    for each in found:
        seconds, moved = before.of.get(each.key, (0.0, 0))
        if each.seconds - seconds >= max(LEAST, SHARE * span) or each.moved - moved >= BYTES:
            used.append(f"{_called(each)} used {each.seconds - seconds:.1f} s of a processor in {span:.0f} s")
    if used:
        return Evidence("processes", _some(used), busy=True)
    if not found:
        return Evidence("processes", "no process of anybody's is there")
    return Evidence("processes", f"only {_some([_called(each) for each in found])} sleep{'s' * (len(found) == 1)}")


def uptime() -> tuple[str, float]:
    """The boot's id, and CLOCK_BOOTTIME."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return boot, time.clock_gettime(time.CLOCK_BOOTTIME)


def _read(pid: int, start: int) -> tuple[list[str], Mine] | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        command = [os.fsdecode(part) for part in Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")]
    except OSError:
        return None
    if len(fields) < 20 or int(fields[19]) != start:
        return None
    seconds = sum(int(each) for each in fields[11:15]) / _TICKS
    return command, Mine(pid, start, " ".join(command), seconds, _moved(pid))


def _moved(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("rchar", "wchar")))


def _is_daemon(command: Collection[str]) -> bool:
    whole = " ".join(command)
    return any(part in whole for part in DAEMONS)


def _called(process: Mine) -> str:
    words = [os.path.basename(word) for word in process.command.split()[:2]]
    return f"{' '.join(words) or 'a process'} ({process.pid})"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
