"""The saver's own memory: what each entry looked like when it was read, and where its content lies.

It only saves time: without it everything is read again and stored as a new copy of nothing that is lost. It is bound
to one store, cluster, workspace and key. A row is trusted while size, times and inode are as they were; one of a file
that changed after the save began that read it is not, since a change within one tick of the clock shows nowhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stackyard.evacuation.blobs import Ref

TICK = 20_000_000
"""Nanoseconds that a file's time may be behind the clock: two ticks of a kernel with 100 Hz."""
RESERVE = 8 << 20
"""Bytes: the rows of some 20,000 new files, or any record of who is frozen."""
_SCHEMA = """
create table if not exists meta (name text primary key, value text not null);
create table if not exists pieces (
  id blob primary key, pack blob not null, start integer not null, length integer not null, size integer not null
) without rowid;
create table if not exists entries (
  folder blob not null, name blob not null, mark blob not null, settled integer not null, line blob not null,
  primary key (folder, name)
) without rowid;
"""


def mark_of(found: os.stat_result) -> bytes:
    """What tells that an entry is still the one that was read."""
    return struct.pack(
        "<QQQqqI", found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode
    )


@dataclass(frozen=True, slots=True)
class Row:
    """What is remembered of an entry."""

    mark: bytes
    """b"" when what was saved is not what was there."""
    settled: bool
    """Whether an unchanged mark proves unchanged content."""
    line: bytes


@contextlib.contextmanager
def locked(state: Path, name: str = "lock") -> Iterator[None]:
    """One at a time in `state`; others wait. Ends with the process, however that ends.

    `lock` is held by whoever saves or verifies, `freeze.lock` by whoever stops or lets go.
    """
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(state / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def reserve(state: Path) -> None:
    """Keep some room for the day on which the disk is full; without any left there is none to keep."""
    place = state / "reserve"
    with contextlib.suppress(OSError):
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not place.exists():
            scratch = state / ".reserve"
            try:
                scratch.write_bytes(os.urandom(RESERVE))  # zeros may take no room
                scratch.replace(place)
            finally:
                scratch.unlink(missing_ok=True)


def release(state: Path) -> None:
    """Use what `reserve` kept."""
    (state / "reserve").unlink(missing_ok=True)


class Cache:
    """Rows of the last saves; what is written is kept by `commit` alone."""

    def __init__(self, state: Path | None, binding: str) -> None:
        """In the folder `state`; None: in memory, for one save on a machine whose disk is full."""
        self._path: Path | None = None
        if state is not None:
            state.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path = state / "cache.db"
        try:
            self._open()
        except sqlite3.OperationalError:  # a full disk is no reason to forget
            raise
        except sqlite3.DatabaseError:
            self._remove()
            self._open()
        if self.note("binding") != binding:
            self.clear()
            self.keep("binding", binding)
            self.commit()

    def _open(self) -> None:
        self._db = sqlite3.connect(self._path or ":memory:", timeout=60, isolation_level="IMMEDIATE")
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = normal")  # lost commits cost time, never content
        self._db.executescript(_SCHEMA)
        self._db.execute("select count(*) from meta").fetchone()

    def _remove(self) -> None:
        self.close()
        if self._path is not None:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)

    def close(self) -> None:
        """Forget what was not committed."""
        with contextlib.suppress(sqlite3.Error):
            self._db.rollback()
            self._db.close()

    def commit(self) -> None:
        """Keep everything so far."""
        self._db.commit()

    def rollback(self) -> None:
        """Forget everything since the last commit."""
        self._db.rollback()

    def note(self, name: str) -> str | None:
        """A remembered text."""
        row = self._db.execute("select value from meta where name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def keep(self, name: str, value: str) -> None:
        """Remember a text."""
        self._db.execute("insert or replace into meta values (?, ?)", (name, value))

    def piece(self, digest: str) -> Ref | None:
        """Where the piece with this id lies."""
        query = "select pack, start, length, size from pieces where id = ?"
        row = self._db.execute(query, (bytes.fromhex(digest),)).fetchone()
        return None if row is None else Ref(row[0].hex(), row[1], row[2], row[3], digest)

    def add_pieces(self, refs: list[Ref]) -> None:
        """Remember where pieces lie."""
        rows = [(bytes.fromhex(r.id), bytes.fromhex(r.pack), r.offset, r.length, r.size) for r in refs]
        self._db.executemany("insert or replace into pieces values (?, ?, ?, ?, ?)", rows)

    def entries(self, folder: bytes, after: bytes, until: bytes | None) -> dict[bytes, Row]:
        """The rows of a folder's entries with `after` < name <= `until` (`after` b"" is below all), by name."""
        query = "select name, mark, settled, line from entries where folder = ? and name >= ?"
        values: list[bytes] = [folder, after]
        if until is not None:
            query, values = query + " and name <= ?", [*values, until]
        return {
            name: Row(mark, bool(settled), line)
            for name, mark, settled, line in self._db.execute(query, values)
            if name != after or not after
        }

    def add_entries(self, rows: list[tuple[bytes, bytes, bytes, bool, bytes]]) -> None:
        """Remember (folder, name, mark, settled, line)."""
        self._db.executemany("insert or replace into entries values (?, ?, ?, ?, ?)", rows)

    def drop_entries(self, folder: bytes, names: list[bytes]) -> None:
        """Forget entries that are gone."""
        self._db.executemany("delete from entries where folder = ? and name = ?", [(folder, name) for name in names])

    def drop_folders_but(self, visited: set[bytes]) -> None:
        """Forget every folder that is not in `visited`."""
        known = {row[0] for row in self._db.execute("select distinct folder from entries")}
        self._db.executemany("delete from entries where folder = ?", [(folder,) for folder in known - visited])

    def distrust(self, packs: set[str]) -> None:
        """Read everything again next time, and store anew what lay in `packs`."""
        self._db.execute("delete from entries")
        self._db.executemany("delete from pieces where pack = ?", [(bytes.fromhex(pack),) for pack in packs])

    def clear(self) -> None:
        """Forget everything."""
        for table in ("meta", "pieces", "entries"):
            self._db.execute(f"delete from {table}")  # noqa: S608  a name of ours
