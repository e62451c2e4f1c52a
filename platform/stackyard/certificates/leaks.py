"""What is left of it? Pure: a ledger and a look at the machine in, leaks out.

By tag: a process is its own when it, or the nearest of its ancestors that carries a tag, carries ours. Some of Ray's
processes write their title over their environment, so one without any tag is known by what it holds open in our
folders. Whoever carries another stack's tag is never ours. By ledger: ports, sockets, folders, shared memory. A port
that somebody else listens on by now is told, and no leak.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from stackyard.certificates.ledger import Ledger
from stackyard.certificates.scene import Listener, Scene, Seen

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Leak:
    """Something that should be gone. `price`: what it costs a day, None where nobody said; `size`: bytes it holds."""

    kind: str
    what: str
    why: str
    price: float | None = None
    size: int = 0


@dataclass(frozen=True)
class Found:
    """What a search found. `others`: what looks like ours and belongs to somebody else."""

    leaks: tuple[Leak, ...] = ()
    others: tuple[str, ...] = ()
    looked: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    """Kind of thing: how many were expected, how many were found."""


def find(ledger: Ledger, scene: Scene) -> Found:
    """Everything of `ledger` that `scene` still shows."""
    ours = {pid: because for pid in scene.processes if (because := _whose(pid, ledger, scene))}
    processes = [_process(scene.processes[pid], because, ledger) for pid, because in sorted(ours.items())]
    ports, others = _ports(ledger, scene, ours)
    shared, theirs = _shared(ledger, scene, ours)
    lying = list(_lying(ledger, scene))
    leaks = (*processes, *ports, *shared, *lying)
    expected = {
        "process": len(ledger.processes),
        "port": len(ledger.ports),
        "shared memory": len(ledger.shared_memory),
        "socket": len(ledger.sockets),
        "folder": len(ledger.folders),
    }
    looked = {
        kind: {"expected": count, "found": sum(leak.kind == kind for leak in leaks)} for kind, count in expected.items()
    }
    return Found(leaks, (*others, *theirs), looked)


def _whose(pid: int, ledger: Ledger, scene: Scene) -> str | None:
    """Why a process is ours; None when it is not."""
    nearest = _nearest(pid, scene.processes)
    if nearest is not None:
        return "it carries our tag" if ledger.owns(dict(nearest)) else None
    held = sorted(file for file in scene.processes[pid].files if _below(file, ledger, scene))
    return f"it holds {held[0]}" if held else None


def _nearest(pid: int, processes: Mapping[int, Seen]) -> Mapping[str, str] | None:
    seen: set[int] = set()
    while pid in processes and pid not in seen:
        if processes[pid].tags:
            return processes[pid].tags
        seen.add(pid)
        pid = processes[pid].parent
    return None


def _below(file: str, ledger: Ledger, scene: Scene) -> bool:
    inode = next((each.inode for each in ledger.shared_memory if str(each.path) == file), None)
    same = inode is not None and file in scene.lying and scene.lying[file].inode == inode
    return same or any(file == folder or file.startswith(f"{folder}/") for folder in ledger.ours)


def _process(seen: Seen, because: str, ledger: Ledger) -> Leak:
    return Leak("process", f"{seen.pid} {seen.command}".strip(), because, ledger.price_a_day)


def _ports(ledger: Ledger, scene: Scene, ours: Mapping[int, str]) -> tuple[list[Leak], list[str]]:
    names = {each.port: each.name for each in ledger.ports}
    own = {each.address for each in ledger.addresses} - {LOOPBACK}
    leaks: list[Leak] = []
    others: list[str] = []
    for each in scene.listeners:
        where = f"{each.address}:{each.port}"
        if each.pids & ours.keys():
            name = names.get(each.port, "a port that the ledger does not name")
            leaks.append(Leak("port", where, f"{name}: a process of ours listens", 0.0))
        elif each.port in names:
            stranger = _stranger(each, own, scene)
            if stranger is None:
                leaks.append(Leak("port", where, f"{names[each.port]}: nobody else would listen there", 0.0))
            else:
                others.append(f"port {where} ({names[each.port]}) is {stranger} by now")
    return leaks, others


def _stranger(listener: Listener, own: set[str], scene: Scene) -> str | None:
    """Whose a listener is that is none of our processes; None where only we can be meant."""
    if any(_nearest(pid, scene.processes) for pid in listener.pids):
        return "another stack's"
    if listener.mine and (listener.address in own or (listener.address == LOOPBACK and not listener.pids)):
        return None  # an address that was chosen for us alone, or a process of this user's that cannot be seen
    return "somebody else's"


def _shared(ledger: Ledger, scene: Scene, ours: Mapping[int, str]) -> tuple[list[Leak], list[str]]:
    leaks: list[Leak] = []
    others: list[str] = []
    named = {str(each.path): each.inode for each in ledger.shared_memory}
    for path, lying in scene.lying.items():
        holders = {pid for pid, seen in scene.processes.items() if path in seen.files}
        if lying.kind == "shared memory" and holders & ours.keys() and path not in named:
            leaks.append(Leak("shared memory", path, "a process of ours holds it", None, lying.size))
        elif path in named and lying.inode == named[path]:
            strangers = {pid for pid in holders if _nearest(pid, scene.processes)} - ours.keys()
            if strangers:
                others.append(f"{path} is held by another stack's process")
            else:
                leaks.append(Leak("shared memory", path, "it was there while we ran", None, lying.size))
    return leaks, others


def _lying(ledger: Ledger, scene: Scene) -> Iterator[Leak]:
    """Sockets and folders; what lies inside a folder that is found is counted with it."""
    folders = [str(path) for path in ledger.folders if str(path) in scene.lying]
    for path in folders:
        if not any(path.startswith(f"{other}/") for other in folders):
            yield Leak("folder", path, "it should be gone", None, scene.lying[path].size)
    for path, lying in scene.lying.items():
        if lying.kind == "folder" and path not in folders and not any(path.startswith(f"{each}/") for each in folders):
            yield Leak("folder", path, "a Ray session at an address of ours", None, lying.size)
    for path in map(str, ledger.sockets):
        if path in scene.lying:
            yield Leak("socket", path, "it should be gone", 0.0)
