"""Prediction and label logs as replicas leave them, made by hand: any day, any order, any damage."""

from __future__ import annotations

import datetime as dt
import io
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from stackyard.data import code
from stackyard.data.reference import Reference
from stackyard.data.sketches import fit, fit_frame
from stackyard.store import bundles, layout
from stackyard.store.documents import canonical
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


CODE = """
import polars as pl

def build(frame):
    print("features are made")
    return frame.select("distance", "carrier", far=pl.col("distance") > 50)

def broken(frame):
    raise RuntimeError("no such feature")

def greedy(frame):
    eaten = [b"x" * (64 << 20) for _ in range(32)]
    return build(frame)

def kpi(rows):
    return float((rows["label"] - rows["output"]).mean())

def odd_kpi(rows):
    return rows["nothing"].sum()
"""
COLUMNS: dict[str, Any] = {
    "time": {"type": "datetime", "known": "before"},
    "distance": {"type": "float", "known": "before", "nullable": True},
    "carrier": {"type": "string", "known": "before"},
    "late": {"type": "boolean", "known": "after"},
}


def toy_rows(rows: int, seed: int = 0) -> pl.DataFrame:
    """Inputs, `output` and `label` of made-up deliveries."""
    random = np.random.default_rng(seed)
    output = random.random(rows)
    return pl.DataFrame(
        {
            "distance": random.uniform(0, 100, rows),
            "carrier": random.choice(["bike", "van"], rows),
            "output": output,
            "label": (random.random(rows) < output).astype(float),
        }
    )


def toy_bundle(store: Store, folder: Path, *, seed: int = 0, features: str = "build", **facts: Any) -> str:
    """A bundle without a model, which evidence needs none of; returns its digest."""
    (folder / "code").mkdir(parents=True, exist_ok=True)
    (folder / "code" / "toy.py").write_text(CODE)
    rows = toy_rows(1000, seed)
    far = rows.select("distance", "carrier", far=pl.col("distance") > 50)
    watched = rows.select("distance", "carrier")
    reference = Reference(1000, fit_frame(watched), fit_frame(far), (fit(rows["output"]),), fit(rows["label"]))
    files = {
        "task": {"type": "binary", "label": "late"},
        "inputs": {"time": "time", "columns": {name: COLUMNS[name] for name in ("time", "distance", "carrier")}},
        "features": {"function": f"toy:{features}", "schema": {}},
        "reference": reference.plain(),
        "metrics": {"figure": "auc", "test": {"auc": 0.83, "rows": 200.0}},
        "lineage": {"run": "toy", "data_end": "2030-01-01"} | facts,
    }
    contents = {f"{name}.json": canonical(value) for name, value in files.items()}
    return bundles.publish(store, contents, {"model": "m", "code": code.publish(store, folder / "code")})
