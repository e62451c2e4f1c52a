"""A look at this machine: its processes, what listens, what lies where the ledger says. Linux, read from /proc.

Whoever looks and its ancestors are left out: they are the ones who asked. So is the working folder of a process at a
terminal: a person may stand in a folder of ours.
"""

from __future__ import annotations

import ipaddress
import json
import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from stackyard.certificates.ledger import TAGS, Ledger
from stackyard.certificates.scene import Listener, Lying, Scene, Seen

PROC = Path("/proc")
RAY = Path("/tmp/ray")
"""Where Ray keeps its sessions when nobody tells it otherwise."""
SHARED_MEMORY = "/dev/shm"
LISTENING = "0A"


def look(ledger: Ledger) -> Scene:
    """The machine now, as far as it may concern `ledger`."""
    roots = (*ledger.ours, str(ledger.runtime), SHARED_MEMORY)
    stats = {pid: found for pid in _pids() if (found := _stat(pid)) is not None}
    parents = {pid: parent for pid, (parent, _) in stats.items()}
    for pid in _lineage(os.getpid(), parents):
        del parents[pid]
    bound = _unix_sockets()
    holders: dict[str, set[int]] = defaultdict(set)
    processes: dict[int, Seen] = {}
    for pid, parent in parents.items():
        files = set[str]()
        for target in _opened(pid, at_terminal=stats[pid][1]):
            if target.startswith("socket:["):
                inode = target[8:-1]
                holders[inode].add(pid)
                files |= bound.get(inode, set())
            else:
                files.add(target)
        near = frozenset(file for file in files | _mapped(pid) if file.startswith(roots))
        processes[pid] = Seen(pid, parent, _command(pid), _tags(pid), near)
    return Scene(processes, tuple(_listeners(holders)), lying(ledger, processes))


def lying(ledger: Ledger, processes: Mapping[int, Seen]) -> dict[str, Lying]:
    """What there is of the ledger's paths, and files in shared memory that `processes` hold."""
    paths = {str(path) for path in (*ledger.folders, *ledger.sockets)}
    paths |= {str(each.path) for each in ledger.shared_memory}
    paths |= {file for seen in processes.values() for file in seen.files if file.startswith(f"{SHARED_MEMORY}/")}
    paths |= set(_sessions(ledger))
    return {path: found for path in sorted(paths) if (found := _lies(path)) is not None}


def _sessions(ledger: Ledger) -> Iterator[str]:
    """Ray's own session folders at an address that was chosen for us alone: of a Ray that took no notice of ours."""
    own = {each.address for each in ledger.addresses} - {"127.0.0.1"}
    for note in RAY.glob("session_*/node_ip_address.json") if own else ():
        try:
            said = json.loads(note.read_text()).get("node_ip_address")
        except (OSError, ValueError, AttributeError):
            continue
        if said in own:
            yield str(note.parent)


def _lies(path: str) -> Lying | None:
    try:
        seen = os.lstat(path)
    except OSError:
        return None
    if path.startswith(f"{SHARED_MEMORY}/"):
        return Lying("shared memory", seen.st_size, seen.st_ino)
    if stat.S_ISDIR(seen.st_mode):
        return Lying("folder", _bytes_below(path), seen.st_ino)
    return Lying("socket" if stat.S_ISSOCK(seen.st_mode) else "file", seen.st_size, seen.st_ino)


def _bytes_below(folder: str) -> int:
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return total


def _pids() -> Iterator[int]:
    for name in os.listdir(PROC):
        if name.isdecimal():
            yield int(name)


def _stat(pid: int) -> tuple[int, bool] | None:
    """Its parent, and whether it has a terminal; None for one that has ended, whoever has yet to hear of it."""
    try:
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else (int(fields[1]), fields[4] != "0")


def _lineage(pid: int, parents: Mapping[int, int]) -> list[int]:
    found: list[int] = []
    while pid in parents and pid not in found:
        found.append(pid)
        pid = parents[pid]
    return found


def _tags(pid: int) -> dict[str, str]:
    """Our tags; read whole, since a title that is written over the beginning leaves a hole."""
    try:
        entries = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = (entry.decode(errors="replace").partition("=") for entry in entries)
    return {name: value for name, _, value in pairs if name in TAGS}


def _command(pid: int) -> str:
    """Its program, and the module or script that it runs: all else may hold what is secret."""
    try:
        program, *rest = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return ""
    if not rest:
        return program.split(" ")[0][:120]  # a title is one text
    first = next((place for place, word in enumerate(rest) if word == "-m" or not word.startswith("-")), 0)
    if rest[first] == "-m":
        return " ".join([program, *rest[first : first + 2]])[:120]
    return (f"{program} {rest[first]}" if rest[first].startswith("/") or rest[first].endswith(".py") else program)[:120]


def _opened(pid: int, *, at_terminal: bool) -> set[str]:
    """Where its descriptors and its working folder lead; a file that was deleted goes by its last name."""
    found: set[str] = set()
    try:
        places = [entry.path for entry in os.scandir(PROC / str(pid) / "fd")]
    except OSError:
        return found
    for place in places if at_terminal else [*places, f"{PROC}/{pid}/cwd"]:
        try:
            found.add(os.readlink(place).removesuffix(" (deleted)"))
        except OSError:
            continue
    return found


def _mapped(pid: int) -> set[str]:
    try:
        lines = (PROC / str(pid) / "maps").read_text(errors="replace").splitlines()
    except OSError:
        return set()
    fields = (line.split(maxsplit=5) for line in lines)
    return {parts[5] for parts in fields if len(parts) == 6 and not parts[5].endswith(" (deleted)")}


def _unix_sockets() -> dict[str, set[str]]:
    """Inode of each unix socket that is bound to a path: that path."""
    found: dict[str, set[str]] = defaultdict(set)
    try:
        lines = (PROC / "net/unix").read_text(errors="replace").splitlines()[1:]
    except OSError:
        return found
    for line in lines:
        parts = line.split(maxsplit=7)
        if len(parts) == 8 and parts[7].startswith("/"):
            found[parts[6]].add(parts[7])
    return found


def _listeners(holders: Mapping[str, set[int]]) -> Iterator[Listener]:
    for name in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            parts = line.split()
            if parts[3] == LISTENING:
                address, _, port = parts[1].partition(":")
                held = frozenset(holders.get(parts[9], ()))
                yield Listener(_address(address), int(port, 16), held, int(parts[7]) == os.getuid())


def _address(text: str) -> str:
    """`0100007F` is 127.0.0.1: words of four bytes, each in the machine's own order."""
    words = [bytes.fromhex(text[start : start + 8])[::-1] for start in range(0, len(text), 8)]
    found = ipaddress.ip_address(b"".join(words))
    plain = getattr(found, "ipv4_mapped", None)
    return str(plain or found)
