"""One walk through a workspace in which what is unchanged is listed from memory and everything else is read."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from stackyard.evacuation import copying
from stackyard.evacuation.cache import Cache, Row, mark_of
from stackyard.evacuation.listing import Line, Writer
from stackyard.evacuation.packs import Packer
from stackyard.evacuation.walking import Batch, Entry, LeftOut, Unsaved

_AGAIN = b'"k":"again"'
_AHEAD = 60 * 1_000_000_000
"""Nanoseconds beyond which a time lies so far ahead that the clock was set back since, and not the disk's is another:
whatever changes such a file now gives it an earlier time. Else nothing could be proven before the clock is there again.
"""


@dataclass
class Tally:
    """What a walk has seen so far."""

    entries: int = 0
    files: int = 0
    size: int = 0
    """Bytes of the files' content."""
    read: int = 0
    """Files that were read."""
    unsaved: list[Unsaved] = field(default_factory=list[Unsaved])
    left_out: list[LeftOut] = field(default_factory=list[LeftOut])
    folders: set[bytes] = field(default_factory=set[bytes])
    repositories: list[bytes] = field(default_factory=list[bytes])


class Pass:
    """Takes batches of a walk, in order."""

    def __init__(
        self,
        cache: Cache,
        packer: Packer,
        writer: Writer,
        *,
        mapped: set[bytes],
        settled_before: int,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`mapped`: paths to read in any case. `settled_before`: ns; what changed later is read again next time."""
        self._cache, self._packer, self._writer = cache, packer, writer
        self._mapped, self._settled_before, self._pause = mapped, settled_before, pause
        self._first: dict[tuple[int, int], bytes] = {}  # (device, inode) of files with several names -> the first
        self.tally = Tally()

    def batch(self, batch: Batch) -> None:
        """List everything in it; forget what is no longer there."""
        self.tally.folders.add(batch.folder)
        self.tally.unsaved += batch.unsaved
        self.tally.left_out += batch.left_out
        rows = self._cache.entries(batch.folder, batch.after, batch.until)
        for entry in batch.entries:
            self._entry(batch, entry, rows.pop(entry.name, None))
        troubled = {trouble.path.rpartition(b"/")[2] for trouble in batch.unsaved}
        self._cache.drop_entries(batch.folder, [name for name in rows if name not in troubled])

    def _entry(self, batch: Batch, entry: Entry, row: Row | None) -> None:
        several = entry.kind == "file" and entry.stat.st_nlink > 1
        inode = (entry.stat.st_dev, entry.stat.st_ino)
        if several and (first := self._first.get(inode)) is not None:
            self._list(batch, entry, Line(copying.again(entry, first)), (mark_of(entry.stat), True))
            return
        whole = row if row is not None and not _is_again(row.line) else None
        if whole is not None and whole.settled and whole.mark == mark_of(entry.stat) and entry.path not in self._mapped:
            self._list(batch, entry, whole.line, None)
        elif not self._read(batch, entry, whole):
            return
        if several:
            self._first[inode] = entry.path

    def _read(self, batch: Batch, entry: Entry, row: Row | None) -> bool:
        """Read an entry and list it; of one that cannot be read, what an earlier save has. Returns whether it is."""
        copied = copying.copy(entry, batch.descriptor, self._packer, self._pause)
        if copied is None:
            batch.vanished.append(entry.name)
            return False
        self.tally.read += entry.kind == "file"
        trouble = copied.unsaved
        if trouble is not None and copied.fields is None and row is not None:
            trouble = Unsaved(trouble.path, trouble.code, f"{trouble.reason}; the version has it as it was before")
        if trouble is not None:
            self.tally.unsaved.append(trouble)
        if copied.fields is None:
            if row is not None:
                self._list(batch, entry, row.line, None)
            return row is not None
        settled = entry.kind != "file" or self._is_settled(entry.stat.st_ctime_ns)
        self._list(batch, entry, Line(copied.fields, copied.pieces), (copied.mark, settled))
        return True

    def _is_settled(self, changed: int) -> bool:
        return changed < self._settled_before or changed > max(self._settled_before, time.time_ns()) + _AHEAD

    def _list(self, batch: Batch, entry: Entry, line: Line | bytes, keep: tuple[bytes, bool] | None) -> None:
        self.tally.entries += 1
        if entry.kind == "file":
            self.tally.files += 1
            self.tally.size += entry.stat.st_size
        if entry.name == b".git":
            self.tally.repositories.append(batch.folder)
        then = None if keep is None else (batch.folder, entry.name, *keep)
        if known := self._writer.add(entry.path, line, then):
            self._cache.add_entries([(*place, data) for place, data in known])


def _is_again(line: bytes) -> bool:
    # The kind follows the path, in which a quotation mark is escaped.
    return _AGAIN in line
