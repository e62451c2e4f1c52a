"""Rows on their way to the store: what is accepted survives a kill, and nobody waits for the store.

A log owns a spool, a folder of numbered segments that hold checksummed blocks, locked by the living replica. A
thread rolls segments into immutable Parquet; the spool of a dead replica is rolled by whichever replica looks next.
"""

from __future__ import annotations

import concurrent.futures
import errno
import fcntl
import io
import os
import shutil
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from stackyard.serving.metrics import Metrics
from stackyard.serving.rolling import HEAD, Part, roll
from stackyard.store.objects import Store

FLUSH_SECONDS = 0.5
ROLL_BYTES = 8 << 20
ROLL_SECONDS = 60.0
RECOVER_SECONDS = 30.0
"""How often spools of dead replicas are looked for."""
REST_SECONDS = 10.0
"""How long the store is left alone after it refused."""


@dataclass
class RollingLog:
    """A spool and the thread that rolls it; `_parts` and `_key` say where its rows belong."""

    model: str
    folder: Path
    open_store: Callable[[], Store | None]
    """The store, or None while it is away."""
    metrics: Metrics
    roll_seconds: float = ROLL_SECONDS
    """May be changed while it runs."""

    def __post_init__(self) -> None:
        self._lock, self._wake, self._ending, self._soon = threading.Lock(), threading.Event(), False, False
        self._asked: list[concurrent.futures.Future[int]] = []
        self._spool = Spool.new(self.folder)
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)

    def start(self) -> None:
        """Start the thread; it first rolls what dead replicas left."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, roll the spool if the store is there, and end."""
        self._ending = True
        self._wake.set()
        self._thread.join(10)

    def roll_soon(self) -> None:
        """Have the thread roll at its next look."""
        self._soon = True
        self._wake.set()

    def roll_now(self, seconds: float) -> int:
        """See everything put before this call in the store, and what dead replicas left; returns rows rolled.

        Raises OSError (the store is away) or TimeoutError.
        """
        asked: concurrent.futures.Future[int] = concurrent.futures.Future()
        with self._lock:
            self._asked.append(asked)
        self._wake.set()
        return asked.result(seconds)

    def _run(self) -> None:
        recovered, rest = -RECOVER_SECONDS, 0.0
        while True:
            self._wake.wait(FLUSH_SECONDS)
            self._wake.clear()
            ending = self._ending
            with self._lock:
                asked, self._asked = self._asked, []
            soon, self._soon, rows = self._soon, False, 0
            try:
                self._flush()
                if ending or asked or soon or (self._due() and time.monotonic() > rest):
                    rows = self._roll()
                if asked or (not ending and time.monotonic() - recovered > RECOVER_SECONDS):
                    recovered = time.monotonic()
                    rows += self._recover()
                if asked and self.open_store() is None:
                    raise OSError("the store is away; rows wait on disk")
                for waiting in asked:
                    waiting.set_result(rows)
            except Exception as error:  # noqa: BLE001 - the log must outlive whatever the store does to it
                rest = time.monotonic() + REST_SECONDS
                for waiting in asked:
                    waiting.set_exception(error)
                print(f"serving: {self._thread.name}: {error!r}", flush=True)
            if ending:
                return

    def _flush(self) -> None:
        """Move what waits in memory to the spool."""

    def _due(self) -> bool:
        return self._spool.due(self.roll_seconds)

    def _parts(self, frame: pl.DataFrame) -> Iterable[Part]:
        raise NotImplementedError

    def _key(self, day: str, name: str) -> str:
        raise NotImplementedError

    def _roll(self) -> int:
        store = self.open_store()
        if store is None or not self._spool.seal():
            return 0
        return roll(self._spool.path, store, self._parts, self._key, poisoned=self.metrics.log_poisoned.inc)

    def _recover(self) -> int:
        store, rows = self.open_store(), 0
        if store is None:
            return 0
        for path in sorted(self.folder.iterdir()):
            if path != self._spool.path and (lock := _try_lock(path)) is not None:
                with lock:
                    rows += roll(path, store, self._parts, self._key, dead=True, poisoned=self.metrics.log_poisoned.inc)
                    shutil.rmtree(path, ignore_errors=True)
        return rows


class Spool:
    """A folder of numbered segments, locked by the living replica that writes it; for any thread."""

    def __init__(self, path: Path, lock: io.IOBase) -> None:
        self.path, self._lock, self._number, self._file, self._began = path, lock, 0, None, 0.0
        self._busy = threading.Lock()

    @classmethod
    def new(cls, folder: Path) -> Spool:
        """A fresh one below `folder`."""
        path = folder / f"{int(time.time()):010d}-{uuid.uuid4().hex[:8]}"
        scratch = folder / f".{path.name}"  # locked before it has a name that others look for
        scratch.mkdir(parents=True, mode=0o700)
        lock = (scratch / "lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        scratch.rename(path)
        return cls(path, lock)

    def append(self, frame: pl.DataFrame, *, sync: bool = False) -> None:
        """Add one block; with `sync` it outlives a power cut once this returns. Raises OSError."""
        buffer = io.BytesIO()
        frame.write_ipc_stream(buffer, compression="lz4")
        block = buffer.getvalue()
        with self._busy:
            self._append(HEAD.pack(len(block), zlib.crc32(block)) + block, sync=sync)

    def _append(self, data: bytes, *, sync: bool) -> None:
        if self._file is None:
            self._number += 1
            self._file = (self.path / f"{self._number:06d}.open").open("wb", buffering=0)
            self._began = time.monotonic()
            if sync:
                for folder in (self.path, self.path.parent):
                    _sync_folder(folder)
        begin = self._file.tell()
        if self._file.write(data) != len(data):  # the disk is full: a torn block would hide those after it
            self._file.truncate(begin)
            self._file.seek(begin)
            raise OSError(errno.ENOSPC, "a block was written in part")
        if sync:
            os.fsync(self._file.fileno())

    def due(self, seconds: float) -> bool:
        """Whether there is something that is `seconds` old, or large."""
        with self._busy:
            if self._file is None:
                return any(self.path.glob("*.blocks"))  # sealed before, when the store was away
            return time.monotonic() - self._began > seconds or self._file.tell() > ROLL_BYTES

    def seal(self) -> bool:
        """End the open segment; whether any waits to be rolled."""
        with self._busy:
            if self._file is not None:
                self._file.close()
                open_ = self.path / f"{self._number:06d}.open"
                open_.rename(open_.with_suffix(".blocks"))
                self._file = None
        return any(self.path.glob("*.blocks"))


def folder_bytes(folder: Path) -> int:
    """Bytes of all segments below `folder`."""
    total = 0
    for path in folder.glob("*/*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(path: Path) -> io.TextIOWrapper | None:
    """The lock of a spool that no living replica holds, else None."""
    if path.name.startswith(".") or not path.is_dir():
        return None
    try:
        lock = (path / "lock").open("a")
    except OSError:  # a neighbour has just rolled and removed it
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    return lock
