"""What a killed Pulumi leaves behind in a file backend: a lock without an owner, and things it had begun to create.

The lock has no lease: it names a process, and stays when that process is killed. A pending create means that Pulumi
does not know whether the thing exists. A file being written at that moment stays in pieces beside the whole one. All
are looked at before each command, and cleared only when it is certain.
"""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
import socket
import urllib.parse
from pathlib import Path
from typing import NamedTuple

PROJECT = "stackyard"
_SLACK_SECONDS = 2.0
"""Start times come from the kernel in ticks since boot."""


class Holder(NamedTuple):
    """Who holds a stack's lock, as the lock says."""

    file: Path
    pid: int
    host: str
    user: str
    since: str


def folder(url: str) -> Path | None:
    """The folder of a `file://` backend; None for any other, whose locks are not ours to judge."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "file":
        return None
    path = urllib.parse.unquote(parts.netloc + parts.path)
    return Path("~" + path[1:]).expanduser() if path.startswith("~") else Path(path)


def checkpoint(backend: Path, stack: str) -> Path | None:
    """The stack's state file, if the stack exists."""
    base = backend / ".pulumi" / "stacks" / PROJECT / stack
    return next(
        (f for end in (".json", ".json.gz") if (f := base.with_name(base.name + end)).exists()),
        None,
    )


def pending(backend: Path, stack: str) -> list[str]:
    """URNs that a killed command had begun to create."""
    file = checkpoint(backend, stack)
    if not file:
        return []
    try:
        data = json.loads(gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes())
        latest = data["checkpoint"].get("latest") or {}
        operations = latest.get("pending_operations") or []
        return [o["resource"]["urn"] for o in operations if o.get("type") == "creating"]
    except (ValueError, KeyError, TypeError, AttributeError):
        # Not a state we can read: Pulumi itself says so better.
        return []


def clear_stale_locks(backend: Path, stack: str) -> list[Holder]:
    """Remove the locks of this machine's dead processes. Returns the holders that may still be alive."""
    alive = []
    for holder in _holders(backend, stack):
        if gone(holder):
            holder.file.unlink(missing_ok=True)
        else:
            alive.append(holder)
    return alive


def mend(backend: Path, stack: str) -> None:
    """Remove the pieces of files of `stack` that a kill left. Call when nobody holds its lock.

    The engine writes a file in three steps: `NAME.<hex>.tmp`, then the description `NAME.attrs`, then the rename. A
    description cut off makes it refuse the whole file ("EOF"), which it would read well without; and it counts a lock
    that was never renamed as somebody's.
    """
    base = backend / ".pulumi"
    files = [*base.glob(f"stacks/{PROJECT}/{stack}.json*"), *base.glob(f"locks/organization/{PROJECT}/{stack}/*")]
    files += [*base.glob(f"history/{PROJECT}/{stack}/*"), *base.glob(f"backups/{PROJECT}/{stack}/*")]
    for file in files:
        if file.suffix == ".tmp" or (file.suffix == ".attrs" and not _is_json(file)):
            file.unlink(missing_ok=True)


def gone(holder: Holder) -> bool:
    """Whether the lock's process has certainly ended: of this machine, and its pid is nobody's or another's now."""
    if holder.host != socket.gethostname() or holder.pid <= 0:
        return False
    started = _started(holder.pid)
    if started is None:
        return True
    if _name(holder.pid).startswith("pulumi"):
        # Its start is counted from a clock that may have been set since: not certain enough.
        return False
    try:
        locked = dt.datetime.fromisoformat(_whole(holder.since)).timestamp()
    except ValueError:
        return False
    return started > locked + _SLACK_SECONDS


def _holders(backend: Path, stack: str) -> list[Holder]:
    found = []
    for file in sorted((backend / ".pulumi" / "locks" / "organization" / PROJECT / stack).glob("*.json")):
        try:
            data = json.loads(file.read_text())
            found.append(Holder(file, int(data["pid"]), data["hostname"], data["username"], data["timestamp"]))
        except (OSError, ValueError, KeyError, TypeError):
            # Written by another version, or this moment: leave it to Pulumi.
            continue
    return found


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    return True


def _started(pid: int) -> float | None:
    """When a living process started, in seconds since 1970; None when there is none, or only its zombie."""
    try:
        # The second field, the name in brackets, may itself hold spaces and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    except (OSError, StopIteration):
        return None
    if fields[0] in "ZX":
        return None
    return int(boot.split()[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def _whole(timestamp: str) -> str:
    """Go writes nanoseconds and `Z`; Python before 3.11 reads neither."""
    head, dot, tail = timestamp.replace("Z", "+00:00").partition(".")
    digits = len(tail) - len(tail.lstrip("0123456789"))
    return f"{head}.{tail[:digits][:6].ljust(6, '0')}{tail[digits:]}" if dot else head
