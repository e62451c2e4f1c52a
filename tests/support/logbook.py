"""Prediction and label logs as replicas leave them, made by hand: any day, any order, any damage."""

from __future__ import annotations

import datetime as dt
import io
import itertools
from collections.abc import Iterable
from typing import Any

import polars as pl

from stackyard.store import layout
from stackyard.store.objects import Store

UTC_TIME = pl.Datetime("us", "UTC")
_numbers = itertools.count()


def at(text: str) -> dt.datetime:
    """`2030-01-02 10:00` as a time in UTC."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def prediction(request_id: str, time: dt.datetime, output: float | list[float] = 0.5, **other: Any) -> dict[str, Any]:
    """One row of the log; inputs and heads may be given by name."""
    outputs = output if isinstance(output, list) else [output]
    head = {"request_id": request_id, "row": 0, "time": time, "bundle": "b" * 64, "release": 1, "arm": "champion"}
    return {**head, "outcome": "ok", "seconds": 0.01, **other, "outputs": outputs}


def label(request_id: str, received: dt.datetime, value: float, row: int = 0) -> dict[str, Any]:
    """One label."""
    return {"request_id": request_id, "row": row, "label": value, "received": received}


def write_predictions(store: Store, model: str, rows: Iterable[dict[str, Any]], **types: Any) -> list[str]:
    """One file a day of `rows`; returns the keys."""
    types = {"time": UTC_TIME, "row": pl.UInt32, "outputs": pl.List(pl.Float64), **types}
    return _write(store, list(rows), "time", types, lambda day, name: layout.predictions(model, day, name))


def write_labels(store: Store, model: str, rows: Iterable[dict[str, Any]], **types: Any) -> list[str]:
    """One file a day of arrival; returns the keys."""
    types = {"received": UTC_TIME, "row": pl.UInt32, "label": pl.Float64, **types}
    return _write(store, list(rows), "received", types, lambda day, name: layout.labels(model, day, name))


def _write(store: Store, rows: list[dict[str, Any]], by: str, types: dict[str, Any], key_of: Any) -> list[str]:
    keys = []
    for day in sorted({row[by].date() for row in rows}):
        part = [row for row in rows if row[by].date() == day]
        frame = pl.DataFrame(part, schema_overrides={name: t for name, t in types.items() if name in part[0]})
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        keys.append(key_of(day.isoformat(), f"{next(_numbers):06d}.parquet"))
        assert store.create(keys[-1], buffer.getvalue())
    return keys
