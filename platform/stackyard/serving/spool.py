"""The prediction log: every answered row ends as Parquet in the store, and no request waits for it.

The inference thread hands over typed frames; the log's thread appends them to a local spool at least once a second
and rolls full or old spools. What is lost (a full memory or disk) is counted.

Columns: request_id, row, time (UTC, by the stack's clock), bundle, release, arm (champion, canary, shadow), outcome
(ok, or why the arm gave no answer), seconds (that the arm took for the batch), then the named inputs, then `outputs`
(list of float64, empty unless ok). A request that HAProxy sent to a second replica keeps its id: readers keep one row
per (request_id, row, arm).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from stackyard.serving import rolling
from stackyard.serving.batching import Logged
from stackyard.serving.rolling import Part
from stackyard.serving.segments import RollingLog, folder_bytes
from stackyard.store import layout
from stackyard.store.objects import Store

MEMORY_ROWS = 50_000
"""Rows that may wait in memory for the spool."""
DISK_BYTES = 1 << 30
"""Bytes of spool on disk while the store is away; rows beyond are lost and counted."""
ARMS_ROLL_SECONDS = 2.0
"""How often to roll while a challenger is watched: a rollback waits for this log."""


@dataclass
class PredictionLog(RollingLog):
    """The log of one replica. `put` may be called from any thread and never blocks on I/O."""

    now: Callable[[], float] | None = None
    """Seconds since 1970 by the stack's clock; a new day there rolls the spool."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._waiting: list[Logged] = []
        self._rows = 0
        self._day = self._today()

    def put(self, logged: Logged) -> None:
        """Take one batch, or count its rows as lost when memory is full."""
        with self._lock:
            if self._rows + len(logged.ids) <= MEMORY_ROWS:
                self._waiting.append(logged)
                self._rows += len(logged.ids)
                return
        self.metrics.log_lost.inc(len(logged.ids))

    def _flush(self) -> None:
        with self._lock:
            waiting, self._waiting, self._rows = self._waiting, [], 0
        for group in _alike(waiting):
            rows = sum(len(logged.ids) for logged in group)
            try:
                if folder_bytes(self.folder) > DISK_BYTES:
                    raise OSError("the spool is full")
                self._spool.append(_table(group))
                self.metrics.log_rows.inc(rows)
            except Exception as error:  # noqa: BLE001 - a full disk, or a frame that cannot be written: only these rows are lost
                self.metrics.log_lost.inc(rows)
                print(f"serving: prediction log lost {rows} rows: {error}", flush=True)

    def _due(self) -> bool:
        day, self._day = self._day, self._today()
        return (self._spool.due(0.0) and day != self._day) or super()._due()

    def _today(self) -> dt.date | None:
        return None if self.now is None else dt.datetime.fromtimestamp(self.now(), dt.UTC).date()

    def _parts(self, frame: pl.DataFrame) -> Iterable[Part]:
        return _parts(frame)

    def _key(self, day: str, name: str) -> str:
        return layout.predictions(self.model, day, name)


def roll(path: Path, model: str, store: Store) -> int:
    """Write every segment of a dead replica's spool as Parquet, one file per bundle, arm and day; returns rows."""
    return rolling.roll(path, store, _parts, lambda day, name: layout.predictions(model, day, name), dead=True)


def _parts(frame: pl.DataFrame) -> Iterable[Part]:
    for (day,), part in frame.group_by(pl.col("time").dt.date(), maintain_order=True):
        arm = part["arm"][0] if "arm" in part.columns else "champion"  # left by a replica of an older version
        yield str(day), f"-{part['bundle'][0][:8]}-{arm}", part


def _alike(waiting: list[Logged]) -> list[list[Logged]]:
    """Batches that fit one table."""
    groups: dict[tuple[str, ...], list[Logged]] = {}
    for logged in waiting:
        groups.setdefault((logged.bundle, logged.arm, *logged.frame.columns), []).append(logged)
    return list(groups.values())


def _table(group: list[Logged]) -> pl.DataFrame:
    ids = [pair for logged in group for pair in logged.ids]

    def each(name: str) -> list[object]:
        return [value for logged in group for value in [getattr(logged, name)] * len(logged.ids)]

    moments = [value for logged in group for value in [round(logged.time * 1e6)] * len(logged.ids)]
    head = pl.DataFrame(
        {
            "request_id": [request_id for request_id, _ in ids],
            "row": pl.Series([row for _, row in ids], dtype=pl.UInt32),
            "time": pl.Series(moments, dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
            "bundle": each("bundle"),
            "release": pl.Series(each("release"), dtype=pl.UInt32),
            "arm": each("arm"),
            "outcome": each("outcome"),
            "seconds": pl.Series(each("seconds"), dtype=pl.Float64),
        }
    )
    inputs = pl.concat([logged.frame for logged in group])
    taken = [name for name in inputs.columns if name in head.columns or name == "outputs"]
    inputs = inputs.rename({name: f"input_{name}" for name in taken})
    rows: list[list[float]] = []
    for logged in group:
        rows += [[]] * len(logged.ids) if logged.outputs is None else logged.outputs.tolist()
    outputs = pl.Series("outputs", rows, dtype=pl.List(pl.Float64))
    return pl.concat([head, inputs], how="horizontal").with_columns(outputs)
