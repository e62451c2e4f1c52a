"""Files of the prediction and label logs, whoever wrote them: one shape out, whatever version of the code wrote them.

Files are immutable, so what was read of one holds for ever. Raw bytes are kept up to a limit, since a day is read
twice; bytes that no parser takes are told, not fatal. Whoever asks learns of a store that fails (it raises).
"""

from __future__ import annotations

import datetime as dt
import io
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import polars as pl

from stackyard.data.requests import DTYPES
from stackyard.spec.models import ColumnSpec
from stackyard.store import layout
from stackyard.store.objects import Store, sha256

HEAD: dict[str, pl.DataType] = {
    "request_id": pl.String(),
    "row": pl.UInt32(),
    "time": pl.Datetime("us", "UTC"),
    "bundle": pl.String(),
    "release": pl.UInt32(),
    "arm": pl.String(),
    "outcome": pl.String(),
    "seconds": pl.Float64(),
}
"""What every row of the prediction log says of itself; the named inputs and `outputs` come after."""
FILLED: dict[str, object] = {"release": 0, "arm": "champion", "outcome": "ok", "seconds": None}
"""What rows say that were written before arms existed."""
OUTPUTS = "outputs"
HELD_BYTES = 192 << 20
"""Bytes of files kept for the second reading of a day."""


@dataclass
class Files:
    """Reads files of one store. Not for several threads."""

    store: Store
    model: str
    held_bytes: int = HELD_BYTES
    unreadable: dict[str, str] = field(default_factory=dict)
    """Keys of files whose bytes no parser took, with the reason."""
    _held: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    _listed: dict[str, tuple[str, ...]] | None = None
    _size: int = 0

    @contextmanager
    def listed_once(self) -> Iterator[None]:
        """Within this, a folder is listed once: what comes meanwhile is seen the next time."""
        self._listed = {}
        try:
            yield
        finally:
            self._listed = None

    def predictions(self, day: dt.date) -> tuple[str, ...]:
        """Keys of the files with predictions of `day`."""
        return self._keys(layout.predictions(self.model, day.isoformat(), ""))

    def labels(self, day: dt.date) -> tuple[str, ...]:
        """Keys of the files with labels that arrived on `day`."""
        return self._keys(layout.labels(self.model, day.isoformat(), ""))

    def rows(self, key: str, columns: Iterable[str]) -> pl.DataFrame:
        """The named columns of HEAD (and `outputs`) of a file of predictions; no rows when it cannot be read."""
        wanted = {name: HEAD.get(name, pl.List(pl.Float64())) for name in columns}
        found = self._read(key, wanted)
        return pl.DataFrame(schema=wanted) if found is None else found

    def inputs(self, key: str, columns: Mapping[str, ColumnSpec]) -> pl.DataFrame | None:
        """The named inputs of a file of predictions, in order; a column that it lacks, or in a type that cannot
        become the spec's, is null. None when the file cannot be read."""
        wanted = {
            (f"input_{name}" if name in HEAD or name == OUTPUTS else name): spec for name, spec in columns.items()
        }
        found = self._read(key, {name: DTYPES[spec.type] for name, spec in wanted.items()})
        return None if found is None else found.rename(dict(zip(wanted, columns, strict=True)))

    def labelled(self, key: str) -> pl.DataFrame:
        """request_id, row, label, received of a file of labels; null where a value is of another type."""
        wanted: dict[str, pl.DataType] = {"request_id": HEAD["request_id"], "row": HEAD["row"]}
        wanted |= {"label": pl.Float64(), "received": HEAD["time"]}
        found = self._read(key, wanted)
        return pl.DataFrame(schema=wanted) if found is None else found

    def _keys(self, folder: str) -> tuple[str, ...]:
        if self._listed is not None and folder in self._listed:
            return self._listed[folder]
        found = tuple(key for key in self.store.keys(folder.rstrip("/")) if key.endswith(".parquet"))
        if self._listed is not None:
            self._listed[folder] = found
        return found

    def _read(self, key: str, wanted: Mapping[str, pl.DataType]) -> pl.DataFrame | None:
        data = self._bytes(key)  # outside: a store that fails says nothing about the file, so the question is repeated
        try:
            there = set(pl.read_parquet_schema(io.BytesIO(data)))
            frame = pl.read_parquet(io.BytesIO(data), columns=[name for name in wanted if name in there])
            rows = frame.height if frame.width else _height(data)
        except (pl.exceptions.PolarsError, OSError, ValueError) as error:
            self.unreadable[key] = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            return None
        blank = pl.Series("", [None]).new_from_index(0, rows)
        made = [
            _typed(frame[name], dtype) if name in there else blank.alias(name).cast(dtype)
            for name, dtype in wanted.items()
        ]
        found = pl.DataFrame(made)
        return found.with_columns(
            pl.col(name).fill_null(FILLED[name]) for name in wanted if FILLED.get(name) is not None
        )

    def _bytes(self, key: str) -> bytes:
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        data = self.store.read(key)
        self._held[key] = data
        self._size += len(data)
        while self._size > self.held_bytes and self._held:
            self._size -= len(self._held.popitem(last=False)[1])
        return data


def digest_of_keys(parts: Iterable[Iterable[str]]) -> str:
    """sha256 of several listings; since files never change, equal listings mean equal rows."""
    return sha256("\n\n".join("\n".join(sorted(keys)) for keys in parts).encode())


def days_between(first: dt.date, last: dt.date) -> Iterator[dt.date]:
    """Every day from `first` to `last`, both included."""
    for offset in range((last - first).days + 1):
        yield first + dt.timedelta(days=offset)


def _typed(series: pl.Series, dtype: pl.DataType) -> pl.Series:
    if series.dtype == dtype:
        return series
    try:
        return series.cast(dtype, strict=False)
    except pl.exceptions.PolarsError:  # a list where a number should be, for example
        return pl.Series(series.name, [None], dtype=dtype).new_from_index(0, series.len())


def _height(data: bytes) -> int:
    return pl.scan_parquet(io.BytesIO(data)).select(pl.len()).collect().item()
