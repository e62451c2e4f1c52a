"""Every entry of a workspace, named by raw bytes, in an order that only names decide.

Folders are opened without following links and their entries looked at relative to the open folder, so a link that
loops, or a folder swapped for a link meanwhile, leads nowhere. What cannot be looked into is told, never passed over;
what vanished between two looks was deleted, which is no loss, but a folder in which something vanished is looked at
again: of checkpoints of which the last few are kept, one that was there is gone when it is read, and another is new.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from stackyard.evacuation.rules import Rules

BATCH = 2048
"""Entries of a folder looked at together, which bounds memory."""
LOOKS = 5
"""How often a folder is looked at again in which something vanished meanwhile."""
ABOVE = b"/"
"""The folder of the workspace's own entry; no relative path is called so."""
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}
SAVED = frozenset({"file", "folder", "link"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder."""

    path: bytes
    """Relative to the workspace; b"" is the workspace itself."""
    name: bytes
    stat: os.stat_result

    @property
    def kind(self) -> str:
        """`file`, `folder`, `link`, `socket`, `fifo` or `device`."""
        return _KINDS.get(stat.S_IFMT(self.stat.st_mode), "device")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that is not saved although nothing went wrong."""

    path: bytes
    rule: str


@dataclass(frozen=True, slots=True)
class Unsaved:
    """Something that could not be saved, or not as it is now."""

    path: bytes
    code: str
    """`unreadable`, `changing` or `growing`."""
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Some entries of one folder: those whose names are after `after`, up to `until` (None: to its end)."""

    folder: bytes
    descriptor: int
    """The open folder; closed once the walk goes on to another."""
    entries: list[Entry]
    after: bytes
    until: bytes | None
    left_out: list[LeftOut] = field(default_factory=list[LeftOut])
    unsaved: list[Unsaved] = field(default_factory=list[Unsaved])
    vanished: list[bytes] = field(default_factory=list[bytes])
    """Names that were gone when they were looked at; whoever finds one gone when reading it adds it."""


def walk(root: str | os.PathLike[str], rules: Rules | None = None) -> Iterator[Batch]:
    """Every entry that is to be saved, folder by folder, a folder's own entry before what is in it.

    The first batch holds the workspace itself. Raises OSError when the workspace cannot be opened.
    """
    rules, top = rules or Rules(), os.fsencode(root)
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Batch(ABOVE, descriptor, [Entry(b"", b"", os.fstat(descriptor))], b"", b"")
    finally:
        os.close(descriptor)
    waiting = [b""]
    while waiting:
        folder = waiting.pop()
        below: list[bytes] = []
        yield from _folder(top, folder, rules, below)
        waiting += reversed(below)


def _folder(top: bytes, folder: bytes, rules: Rules, below: list[bytes]) -> Iterator[Batch]:
    """The batches of one folder; its own folders are added to `below`."""
    descriptor = -1
    try:
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | (os.O_NOFOLLOW if folder else 0)
            descriptor = os.open(os.path.join(top, folder), flags)
            names = sorted(map(os.fsencode, os.listdir(descriptor)))
        except OSError as error:
            if not isinstance(error, (FileNotFoundError, NotADirectoryError)) or not folder:
                trouble = Unsaved(folder, "unreadable", f"its folder cannot be read: {error.strerror}")
                yield Batch(folder, -1, [], b"", b"", unsaved=[trouble])
            return
        after, vanished = b"", list[bytes]()
        for start in range(0, len(names) or 1, BATCH):
            part = names[start : start + BATCH]
            until = part[-1] if start + BATCH < len(names) else None
            batch = Batch(folder, descriptor, [], after, until)
            for name in part:
                _look(batch, name, rules, below)
            yield batch
            vanished += batch.vanished
            after = until or b""
        if vanished:
            yield from _again(folder, descriptor, set(names), vanished, rules, below)
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _again(
    folder: bytes, descriptor: int, seen: set[bytes], vanished: list[bytes], rules: Rules, below: list[bytes]
) -> Iterator[Batch]:
    """What is new in a folder in which something vanished while it was walked."""
    for _ in range(LOOKS):
        if not vanished:
            return
        fresh = set(map(os.fsencode, os.listdir(descriptor))) - (seen - set(vanished))
        seen |= fresh
        batch = Batch(folder, descriptor, [], b"", b"")
        for name in sorted(fresh):
            _look(batch, name, rules, below)
        yield batch
        vanished = batch.vanished


def _look(batch: Batch, name: bytes, rules: Rules, below: list[bytes]) -> None:
    path = batch.folder + b"/" + name if batch.folder else name
    try:
        found = Entry(path, name, os.stat(name, dir_fd=batch.descriptor, follow_symlinks=False))
    except FileNotFoundError:
        batch.vanished.append(name)
        return
    except OSError as error:
        batch.unsaved.append(Unsaved(path, "unreadable", f"it cannot be looked at: {error.strerror}"))
        return
    kind = found.kind
    if (rule := rules.left_out(path, size=found.stat.st_size if kind == "file" else None)) is not None:
        if kind != "folder" or not rules.rescues:
            batch.left_out.append(LeftOut(path, rule))
            return
    elif kind not in SAVED:
        batch.left_out.append(LeftOut(path, f"a {kind} holds nothing to save"))
        return
    if kind == "folder":
        below.append(path)
    batch.entries.append(found)
