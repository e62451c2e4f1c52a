"""How fast a day is judged: ours against Evidently and scipy, on the same rows, in turns.

    python benchmarks/drift_throughput.py [--rows 1000000] [--rounds 5] [--peer-rows 100000]

The peer lives in an environment of its own, made by `uv run --with evidently` in a child process, since it is not what
we run with; the child times itself, so neither its start nor its imports count. Both are given a frame in memory (ours
polars, theirs the pandas frame it asks for), 11 numbers and 3 words, PSI for every column. scipy's two-sample tests
stand beside them: the raw test of each numeric column, without bins. What counts are ratios, with the least and the
greatest round. Ours is also run on a day of a million predictions, summaries, verdict and all, and its memory is told.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from scipy import stats

from stackyard.data import sketches
from stackyard.monitoring import distances

NUMBERS, WORDS = 11, 3

PEER = """
import json, sys, time, warnings
warnings.filterwarnings("ignore")
import pandas as pd
from evidently import Dataset, DataDefinition, Report
from evidently.presets import DataDriftPreset
known, live = (pd.read_parquet(path) for path in sys.argv[1:3])
words = [name for name in known.columns if name.startswith("w")]
numbers = [name for name in known.columns if name not in words]
shape = DataDefinition(numerical_columns=numbers, categorical_columns=words)
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    began = time.perf_counter()
    sides = [Dataset.from_pandas(frame, data_definition=shape) for frame in (live, known)]
    run = Report([DataDriftPreset(method="psi")]).run(*sides)
    took = time.perf_counter() - began
    found = {}
    for metric in run.dict()["metrics"]:
        if isinstance(metric["value"], float) and "ValueDrift" in metric["metric_name"]:
            found[metric["metric_name"].split("column=")[1].split(",")[0].rstrip(")")] = metric["value"]
    print(json.dumps({"seconds": took, "psi": found}), flush=True)
"""


def main() -> None:
    """Print the ratios as a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--peer-rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    rng = np.random.default_rng(1)
    known, live = frame(rng, 50_000, 0.0), frame(rng, asked.peer_rows, 0.3)
    with tempfile.TemporaryDirectory() as folder, Peer(Path(folder), known, live) as peer:
        rounds = [(ours(known, live), peer.ask(), scipys(known, live)) for _ in range(asked.rounds)]
    agree(rounds[0][0]["psi"], rounds[0][1]["psi"])
    print(f"{asked.peer_rows:,} live rows and 50,000 of reference, {NUMBERS + WORDS} columns, {asked.rounds} rounds")
    for name, place in (("Evidently", 1), ("scipy's ks_2samp", 2)):
        for what in ("seconds", "live_seconds"):
            ratios = [found[place]["seconds"] / found[0][what] for found in rounds]
            theirs = statistics.median(found[place]["seconds"] for found in rounds)
            own = statistics.median(found[0][what] for found in rounds)
            print(
                f"| {name} | {theirs * 1e3:.0f} ms | {own * 1e3:.0f} ms{' (bins known)' if 'live' in what else ''} | "
                f"{statistics.median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f}) |"
            )
    bins = sketches.fit_frame(known)
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    summed, part = None, 100_000
    for start in range(0, asked.rows, part):  # as a day's files come: a part at a time
        found = sketches.add_frame(bins, frame(rng, min(part, asked.rows - start), 0.3))
        summed = found if summed is None else {name: summed[name] + found[name] for name in found}
    assert summed is not None
    for name, sketch in summed.items():
        distances.effect("psi", sketch.table, bins[name].table)
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    took = time.perf_counter() - began
    print(f"a day of {asked.rows:,} rows: {took:.1f} s with making the rows up, {more:.0f} MiB more at the most")


def frame(rng: np.random.Generator, rows: int, shift: float) -> pl.DataFrame:
    """Rows of normal numbers moved by `shift` and of words."""
    words = np.array([f"word{place}" for place in range(20)])
    numbers = {f"n{place}": rng.normal(shift * (place % 2), 1, rows) for place in range(NUMBERS)}
    return pl.DataFrame(numbers | {f"w{place}": words[rng.integers(0, 20, rows)] for place in range(WORDS)})


def ours(known: pl.DataFrame, live: pl.DataFrame) -> dict[str, Any]:
    """Bins of the reference, both sides counted, effect with its bound and test; everything anew each time.

    `live_seconds` are those from the bins on, which training writes into the bundle.
    """
    began = time.perf_counter()
    reference = sketches.fit_frame(known)
    fitted = time.perf_counter()
    found = sketches.add_frame(reference, live)
    psi = {}
    for name, sketch in found.items():
        psi[name] = float(distances.effect("psi", sketch.table, reference[name].table).raw)
        distances.chi_square(sketch.table, reference[name].table)
    ended = time.perf_counter()
    return {"seconds": ended - began, "live_seconds": ended - fitted, "psi": psi}


def scipys(known: pl.DataFrame, live: pl.DataFrame) -> dict[str, Any]:
    """The two-sample test of Kolmogorov and Smirnov for each number."""
    began = time.perf_counter()
    for name in live.columns[:NUMBERS]:
        stats.ks_2samp(live[name].to_numpy(), known[name].to_numpy(), method="asymp")
    return {"seconds": time.perf_counter() - began}


def agree(mine: dict[str, float], theirs: dict[str, float]) -> None:
    """Both say the same, up to their bins: Evidently cuts 30 equal widths or so, ours are deciles."""
    assert set(theirs) == set(mine), (sorted(theirs), sorted(mine))
    for name, value in mine.items():
        assert abs(value - theirs[name]) < 0.05 + 0.3 * value, (name, value, theirs[name])


class Peer:
    """A child with Evidently, that times itself."""

    def __init__(self, folder: Path, known: pl.DataFrame, live: pl.DataFrame) -> None:
        paths = [folder / "known.parquet", folder / "live.parquet"]
        for path, side in zip(paths, (known, live), strict=True):
            side.write_parquet(path)
        script = folder / "peer.py"
        script.write_text(PEER)
        uv = os.environ.get("UV") or shutil.which("uv")
        if uv is None:
            sys.exit("uv is needed to make the peer's environment: put it on PATH, or say UV=/path/to/uv")
        wanted = [part for name in ("evidently", "pandas<3", "pyarrow") for part in ("--with", name)]
        command = [uv, "run", "--no-project", *wanted, "python", str(script), *map(str, paths)]
        quiet = os.environ | {"DO_NOT_TRACK": "1"}
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=quiet)
        self._read()

    def ask(self) -> dict[str, Any]:
        """One round."""
        assert self._child.stdin is not None
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        return self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(30)

    def _read(self) -> Any:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            sys.exit("the peer's environment could not be made or the peer failed: see above")
        return json.loads(line)


if __name__ == "__main__":
    main()
