"""How long a day of many predictions takes to become evidence, and how much memory: `python benchmarks/day_summary.py`.

Writes a day of ROWS predictions (default 1,000,000; 16 inputs, 14 of them numbers; files of 50,000 rows as replicas
roll them) with as many labels, then gathers its evidence in a process of its own and prints one JSON object: seconds,
rows a second, and the peak of resident memory.
"""

from __future__ import annotations

import argparse
import datetime as dt
import io
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from stackyard.data import code
from stackyard.data.reference import Reference
from stackyard.data.sketches import fit, fit_frame
from stackyard.monitoring.evidence import Evidence
from stackyard.spec.models import MonitoringSpec
from stackyard.store import bundles, layout
from stackyard.store.documents import canonical
from stackyard.store.objects import Store

DAY = dt.date(2030, 1, 2)
NOW = dt.datetime(2030, 1, 10, tzinfo=dt.UTC)
FILE_ROWS = 50_000
LIMIT_MEGABYTES = 1024
NUMBERS = [f"number_{place}" for place in range(14)]
CODE = """
import polars as pl

def build(frame):
    return frame.select(pl.all().exclude("time"), total=pl.sum_horizontal("^number_.*$"), hour=pl.col("time").dt.hour())
"""


def frame(rows: int, seed: int) -> pl.DataFrame:
    """Inputs, `outputs` and `label`."""
    random = np.random.default_rng(seed)
    output = random.random(rows)
    columns: dict[str, Any] = {name: random.normal(size=rows) for name in NUMBERS}
    columns |= {"carrier": random.choice([f"carrier {number}" for number in range(16)], rows)}
    columns |= {"output": output, "label": (random.random(rows) < output).astype(float)}
    return pl.DataFrame(columns)


def bundle(store: Store, folder: Path) -> str:
    """A bundle without a model."""
    (folder / "code").mkdir()
    (folder / "code" / "project.py").write_text(CODE)
    rows = frame(20_000, 0)
    inputs = rows.select(*NUMBERS, "carrier")
    computed = inputs.with_columns(total=pl.sum_horizontal(NUMBERS), hour=pl.int_range(pl.len()) % 24)
    reference = Reference(20_000, fit_frame(inputs), fit_frame(computed), (fit(rows["output"]),), fit(rows["label"]))
    columns = {"time": {"type": "datetime", "known": "before"}} | {
        name: {"type": "string" if name == "carrier" else "float", "known": "before"} for name in inputs.columns
    }
    files = {
        "task": {"type": "binary", "label": "late"},
        "inputs": {"time": "time", "columns": columns},
        "features": {"function": "project:build", "schema": {}},
        "reference": reference.plain(),
        "metrics": {"figure": "auc", "test": {"auc": 0.8}},
        "lineage": {},
    }
    contents = {f"{name}.json": canonical(value) for name, value in files.items()}
    return bundles.publish(store, contents, {"model": "m", "code": code.publish(store, folder / "code")})


def write(store: Store, digest: str, rows: int) -> None:
    """The day's predictions, and labels that came a day later."""
    for start in range(0, rows, FILE_ROWS):
        part = frame(min(FILE_ROWS, rows - start), start + 1)
        height = part.height
        ids = [f"0190a1b2-c3d4-7e5f-8a9b-{start + number:012x}" for number in range(height)]
        times = np.datetime64(DAY, "us") + np.sort(np.random.default_rng(start).integers(0, 86_400 * 10**6, height))
        head = pl.DataFrame({"request_id": ids, "row": pl.Series([0] * height, dtype=pl.UInt32)})
        stamped = head.with_columns(
            pl.Series("time", times).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
            pl.lit(digest).alias("bundle"),
            pl.lit(1, pl.UInt32).alias("release"),
            pl.lit("champion").alias("arm"),
            pl.lit("ok").alias("outcome"),
            pl.lit(0.004).alias("seconds"),
        )
        inputs = part.select(*NUMBERS, "carrier").with_columns(stamped["time"].alias("input_time"))
        outputs = part.select(pl.concat_list("output").alias("outputs"))
        log = pl.concat([stamped, inputs, outputs], how="horizontal")
        store.create(layout.predictions("m", DAY.isoformat(), f"{start:09d}.parquet"), _bytes(log))
        labels = head.with_columns(part["label"], (stamped["time"] + dt.timedelta(days=1)).alias("received"))
        after = (DAY + dt.timedelta(days=1)).isoformat()
        store.create(layout.labels("m", after, f"{start:09d}.parquet"), _bytes(labels))


def gather(folder: Path, digest: str) -> None:
    """In a process of its own, so that the peak is its alone."""
    began = time.perf_counter()
    found = Evidence(Store.open(folder / "store"), "m", MonitoringSpec(slices=("carrier",)), folder / "cache").day(
        DAY, digest, NOW
    )
    seconds = time.perf_counter() - began
    (summary,) = found.summaries
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = {
        "rows": summary.rows,
        "labelled": summary.labelled,
        "seconds": round(seconds, 2),
        "rows_per_second": round(summary.rows / seconds),
        "peak_megabytes": round(megabytes),
    }
    print(json.dumps(told))
    sys.exit(megabytes > LIMIT_MEGABYTES)


def main() -> int:
    """0, or 1 when the day took more than LIMIT_MEGABYTES of memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    with tempfile.TemporaryDirectory(prefix="sy-bench-") as name:
        folder = Path(name)
        store = Store.open(folder / "store")
        digest = bundle(store, folder)
        write(store, digest, parser.parse_args().rows)
        child = multiprocessing.get_context("spawn").Process(target=gather, args=(folder, digest))
        child.start()
        child.join()
    return child.exitcode or 0


def _bytes(found: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    found.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
