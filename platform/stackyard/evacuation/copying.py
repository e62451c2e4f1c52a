"""One entry as it was at one moment: a file that changes meanwhile is read again, and told if it never holds still.

A file is consistent if its size, times and inode are the same before and after. If it only grew (a log), what was there
at the beginning is a true copy of that moment and is kept; it is told all the same.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackyard.evacuation.cache import mark_of
from stackyard.evacuation.chunking import MOST, chunks
from stackyard.evacuation.errors import StoreAwayError, StoreFullError
from stackyard.evacuation.listing import text_of
from stackyard.evacuation.packs import Packer, Piece
from stackyard.evacuation.walking import Entry, Unsaved

WHOLE = 1 << 20
"""Bytes up to which a file is one piece."""
_PAUSES = (0.02, 0.2)
"""Seconds before the second and the third try."""
TRIES = len(_PAUSES) + 1


@dataclass(frozen=True, slots=True)
class Copied:
    """What reading an entry gave: its line's fields and content, what it looked like, and what is wrong."""

    fields: dict[str, Any] | None
    pieces: list[Piece] | None
    mark: bytes
    """b"" when it must be read again next time."""
    unsaved: Unsaved | None = None


def copy(entry: Entry, folder: int, packer: Packer, pause: Callable[[float], None] = time.sleep) -> Copied | None:
    """Read an entry of the open `folder`. None: it vanished. Raises StoreFullError, StoreAwayError."""
    try:
        if entry.kind == "file":
            return _file(entry, folder, packer, pause)
        fields = _fields(entry.path, entry.kind, entry.stat)
        if entry.kind == "link":
            fields["l"] = text_of(os.readlink(entry.name, dir_fd=folder))
        else:
            fields.update(_attributes(folder, entry.name))
        return Copied(fields, None, mark_of(entry.stat))
    except FileNotFoundError:
        return None
    except (StoreFullError, StoreAwayError):
        raise
    except OSError as error:
        return Copied(None, None, b"", Unsaved(entry.path, "unreadable", f"it cannot be read: {error.strerror}"))


def again(entry: Entry, first: bytes) -> dict[str, Any]:
    """The fields of another name of the file at `first`."""
    return {**_fields(entry.path, "again", entry.stat), "l": text_of(first)}


def _file(entry: Entry, folder: int, packer: Packer, pause: Callable[[float], None]) -> Copied:
    copied = _once(entry, folder, packer)
    for seconds in _PAUSES:
        if copied.unsaved is None:
            break
        pause(seconds)
        copied = _once(entry, folder, packer)
    return copied


def _once(entry: Entry, folder: int, packer: Packer) -> Copied:
    # A name may have become a fifo, which must not block, or a link, which must not be followed.
    descriptor = os.open(entry.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            return _moving(entry, "it became something else while it was read")
        pieces, length = content(descriptor, before.st_size, packer)
        fields = {**_fields(entry.path, "file", before), "s": length, **_attributes_of(descriptor)}
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if mark_of(before) == mark_of(after) and length == before.st_size:
        return Copied(fields, pieces, mark_of(after))
    if length == before.st_size < after.st_size:
        reason = f"it grew while it was copied, {TRIES} times: its first {length} bytes are saved"
        return Copied(fields, pieces, b"", Unsaved(entry.path, "growing", reason))
    return _moving(entry, f"it changed while it was copied, {TRIES} times")


def _moving(entry: Entry, reason: str) -> Copied:
    return Copied(None, None, b"", Unsaved(entry.path, "changing", reason))


def content(descriptor: int, size: int, packer: Packer) -> tuple[list[Piece], int]:
    """At most `size` bytes of an open file, stored; and how many there were."""
    if size <= WHOLE:
        data = _read(descriptor, size)
        return ([packer.add(data)] if data else []), len(data)
    left = size

    def read(most: int) -> bytes:
        nonlocal left
        block = _read(descriptor, min(most, left))
        left -= len(block)
        return block

    pieces = [packer.add(chunk) for chunk in chunks(read)]
    with contextlib.suppress(OSError):  # what was read once need not push the user's pages out
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return pieces, size - left


def _read(descriptor: int, most: int) -> bytes:
    """`most` bytes, fewer at the end of the file only."""
    data = os.read(descriptor, most)
    if len(data) == most or not data:
        return data
    parts, have = [data], len(data)
    while have < most and (more := os.read(descriptor, min(most - have, MOST))):
        parts.append(more)
        have += len(more)
    return b"".join(parts)


def _fields(path: bytes, kind: str, found: os.stat_result) -> dict[str, Any]:
    return {
        "p": text_of(path),
        "k": kind,
        "m": found.st_mode & 0o7777,
        "o": [found.st_uid, found.st_gid],
        "t": found.st_mtime_ns,
    }


def _attributes(folder: int, name: bytes) -> dict[str, Any]:
    descriptor = os.open(name or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        return _attributes_of(descriptor)
    finally:
        os.close(descriptor)


def _attributes_of(descriptor: int) -> dict[str, Any]:
    try:
        names = os.listxattr(descriptor)
        found = {name: base64.b64encode(os.getxattr(descriptor, name)).decode() for name in names}
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.EACCES):
            return {}
        raise
    return {"x": found} if found else {}


def shared_writable(workspace: Path) -> set[bytes]:
    """Files of the workspace that a process maps writable and shared, relative: their times tell nothing.

    Writing to such memory shows in a file's times once per write-back at most, and on tmpfs never.
    """
    root = os.fsencode(os.path.realpath(workspace)) + b"/"
    found: set[bytes] = set()
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            lines = Path(f"/proc/{pid}/maps").read_bytes().split(b"\n")
        except OSError:
            continue
        for line in lines:
            columns = line.split(None, 5)
            if len(columns) == 6 and columns[1][1:2] == b"w" and columns[1][3:4] == b"s":
                path = columns[5].replace(b"\\012", b"\n")
                if path.startswith(root):
                    found.add(path.removeprefix(root))
    return found
