"""The prediction log: every answered row ends as Parquet in the store, and no request waits for it.

The inference thread hands over typed frames; a thread of this module appends them to a local spool at least once a
second, as blocks that survive a kill, and rolls full or old spools into immutable Parquet. The spool of a dead
replica is rolled by whichever replica starts or polls next. What is lost (a full memory or disk) is counted.

Columns: request_id, row, time (UTC), bundle, then the named inputs, then `outputs` (list of float64).
A request that HAProxy sent to a second replica keeps its id: readers keep one row per (request_id, row).
"""

from __future__ import annotations

import datetime as dt
import errno
import fcntl
import io
import shutil
import struct
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from stackyard.serving.batching import Logged
from stackyard.serving.metrics import Metrics
from stackyard.store import layout
from stackyard.store.objects import Store

FLUSH_SECONDS = 0.5
ROLL_BYTES = 8 << 20
ROLL_SECONDS = 60.0
MEMORY_ROWS = 50_000
"""Rows that may wait in memory for the spool."""
DISK_BYTES = 1 << 30
"""Bytes of spool on disk while the store is away; rows beyond are lost and counted."""

RECOVER_SECONDS = 30.0
"""How often spools of dead replicas are looked for."""
REST_SECONDS = 10.0
"""How long the store is left alone after it refused."""

_HEAD = struct.Struct("<II")


@dataclass
class PredictionLog:
    """The log of one replica. `put` may be called from any thread and never blocks on I/O."""

    model: str
    folder: Path
    open_store: Callable[[], Store | None]
    """The store, or None while it is away."""
    metrics: Metrics
    roll_seconds: float = ROLL_SECONDS

    def __post_init__(self) -> None:
        self._lock, self._wake, self._ending = threading.Lock(), threading.Event(), False
        self._waiting: list[Logged] = []
        self._rows = 0
        self._spool = _Spool.new(self.folder)
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    def start(self) -> None:
        """Start the thread; it first rolls what dead replicas left."""
        self._thread.start()

    def put(self, logged: Logged) -> None:
        """Take one batch, or count its rows as lost when memory is full."""
        with self._lock:
            if self._rows + len(logged.ids) <= MEMORY_ROWS:
                self._waiting.append(logged)
                self._rows += len(logged.ids)
                return
        self.metrics.log_lost.inc(len(logged.ids))

    def stop(self) -> None:
        """Write what waits, roll the spool if the store is there, and end."""
        self._ending = True
        self._wake.set()
        self._thread.join(10)

    def _run(self) -> None:
        recovered, rest = -RECOVER_SECONDS, 0.0
        while True:
            ending = self._wake.wait(FLUSH_SECONDS) or self._ending
            try:
                self._flush()
                if ending or (self._spool.due(self.roll_seconds) and time.monotonic() > rest):
                    self._roll()
                if not ending and time.monotonic() - recovered > RECOVER_SECONDS:
                    recovered = time.monotonic()
                    self._recover()
            except Exception as error:  # noqa: BLE001 - the log must outlive whatever the store does to it
                rest = time.monotonic() + REST_SECONDS
                print(f"serving: prediction log: {error!r}", flush=True)
            if ending:
                return

    def _flush(self) -> None:
        with self._lock:
            waiting, self._waiting, self._rows = self._waiting, [], 0
        for group in _by_bundle(waiting):
            rows = sum(len(logged.ids) for logged in group)
            try:
                if folder_bytes(self.folder) > DISK_BYTES:
                    raise OSError("the spool is full")
                self._spool.append(_table(group))
                self.metrics.log_rows.inc(rows)
            except Exception as error:  # noqa: BLE001 - a full disk, or a frame that cannot be written: only these rows are lost
                self.metrics.log_lost.inc(rows)
                print(f"serving: prediction log lost {rows} rows: {error}", flush=True)

    def _roll(self) -> None:
        store = self.open_store()
        if store is not None and self._spool.seal():
            roll(self._spool.path, self.model, store)

    def _recover(self) -> None:
        store = self.open_store()
        if store is None:
            return
        for path in sorted(self.folder.iterdir()):
            if path != self._spool.path and (lock := _try_lock(path)) is not None:
                with lock:
                    roll(path, self.model, store)
                    shutil.rmtree(path, ignore_errors=True)


class _Spool:
    """A folder of numbered segments, locked by the living replica that writes it."""

    def __init__(self, path: Path, lock: io.IOBase) -> None:
        self.path, self._lock, self._number, self._file, self._began = path, lock, 0, None, 0.0

    @classmethod
    def new(cls, folder: Path) -> _Spool:
        path = folder / f"{int(time.time()):010d}-{uuid.uuid4().hex[:8]}"
        scratch = folder / f".{path.name}"  # locked before it has a name that others look for
        scratch.mkdir(parents=True, mode=0o700)
        lock = (scratch / "lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        scratch.rename(path)
        return cls(path, lock)

    def append(self, frame: pl.DataFrame) -> None:
        buffer = io.BytesIO()
        frame.write_ipc_stream(buffer, compression="lz4")
        block = buffer.getvalue()
        if self._file is None:
            self._number += 1
            self._file = (self.path / f"{self._number:06d}.open").open("wb", buffering=0)
            self._began = time.monotonic()
        data, begin = _HEAD.pack(len(block), zlib.crc32(block)) + block, self._file.tell()
        if self._file.write(data) != len(data):  # the disk is full: a torn block would hide those after it
            self._file.truncate(begin)
            self._file.seek(begin)
            raise OSError(errno.ENOSPC, "a block was written in part")

    def due(self, seconds: float) -> bool:
        if self._file is None:
            return any(self.path.glob("*.blocks"))  # sealed before, when the store was away
        return time.monotonic() - self._began > seconds or self._file.tell() > ROLL_BYTES

    def seal(self) -> bool:
        if self._file is not None:
            self._file.close()
            open_ = self.path / f"{self._number:06d}.open"
            open_.rename(open_.with_suffix(".blocks"))
            self._file = None
        return any(self.path.glob("*.blocks"))


def roll(path: Path, model: str, store: Store) -> int:
    """Write every segment of spool `path` to the store as Parquet, one file per bundle and day; returns rows.

    Repeatable: names follow from the spool and the content, and an object that is there is not written again.
    """
    total = 0
    for segment in sorted([*path.glob("*.blocks"), *path.glob("*.open")]):
        frames: dict[tuple[str, dt.date], list[pl.DataFrame]] = {}
        for frame in blocks(segment):
            for (day,), part in frame.group_by(pl.col("time").dt.date(), maintain_order=True):
                frames.setdefault((str(part["bundle"][0]), day), []).append(part)  # type: ignore[arg-type]
        for (bundle, day), parts in frames.items():
            buffer = io.BytesIO()
            whole = pl.concat(parts)
            whole.write_parquet(buffer, compression="zstd")
            name = f"{path.name}-{segment.stem}-{bundle[:8]}.parquet"
            store.create(layout.predictions(model, day.isoformat(), name), buffer.getvalue())
            total += whole.height
        segment.unlink()
    return total


def blocks(segment: Path) -> Iterator[pl.DataFrame]:
    """The whole blocks of a segment, up to the first that a kill cut short."""
    with segment.open("rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            size, checksum = _HEAD.unpack(head)
            block = file.read(size)
            if len(block) != size or zlib.crc32(block) != checksum:
                return
            yield pl.read_ipc_stream(io.BytesIO(block))


def folder_bytes(folder: Path) -> int:
    """Bytes of all segments below `folder`."""
    total = 0
    for path in folder.glob("*/*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def _by_bundle(waiting: list[Logged]) -> list[list[Logged]]:
    groups: dict[str, list[Logged]] = {}
    for logged in waiting:
        groups.setdefault(logged.bundle, []).append(logged)
    return list(groups.values())


def _table(group: list[Logged]) -> pl.DataFrame:
    ids = [pair for logged in group for pair in logged.ids]
    head = pl.DataFrame(
        {
            "request_id": [request_id for request_id, _ in ids],
            "row": pl.Series([row for _, row in ids], dtype=pl.UInt32),
            "time": pl.Series([round(logged.time * 1e6) for logged in group for _ in logged.ids], dtype=pl.Int64).cast(
                pl.Datetime("us", "UTC")
            ),
            "bundle": [logged.bundle for logged in group for _ in logged.ids],
        }
    )
    inputs = pl.concat([logged.frame for logged in group])
    taken = [name for name in inputs.columns if name in head.columns or name == "outputs"]
    inputs = inputs.rename({name: f"input_{name}" for name in taken})
    outputs = pl.Series(
        "outputs", [row for logged in group for row in logged.outputs.tolist()], dtype=pl.List(pl.Float64)
    )
    return pl.concat([head, inputs], how="horizontal").with_columns(outputs)


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
