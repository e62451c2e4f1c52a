"""What a retraining brings to prove its recipe: rows held out by time, with its own answers and the champion's.

The trial never saw these rows; of the champion it is told up to which day it learnt, so that the gates compare both
on rows that are new to both. A champion that cannot be asked is told, and no reason to fail: the candidate is made.
"""

from __future__ import annotations

import datetime as dt
import io
import time
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl

from stackyard.data import code, snapshots
from stackyard.spec.models import DataSpec
from stackyard.store import bundles, layout
from stackyard.store.objects import Store, sha256
from stackyard.training import backtest, measures
from stackyard.training.failures import explain
from stackyard.training.intent import Intent
from stackyard.training.loaded import Loaded

TABLE = "holdout.parquet"
SLICE = "slice:"
"""What precedes a slice's column in the table of held-out rows."""
REPEATS = 5


@dataclass(frozen=True)
class Proof:
    """What is held out and against whom: frozen with the run, so that another try proves the same."""

    start: dt.datetime
    """Rows from here on are held out."""
    end: dt.datetime
    champion: str | None
    refit: bool
    slices: tuple[str, ...]
    backtest: int

    @classmethod
    def of(cls, intent: Intent, manifest: dict[str, Any]) -> Self | None:
        """For the rows of a snapshot; the span ends with the day of the newest row. None for a first model."""
        if intent.holdout is None:
            return None
        last = snapshots.day_after(dt.datetime.fromisoformat(manifest["time"]["last"]))
        end = dt.datetime.combine(last, dt.time(), dt.UTC)
        start = end - dt.timedelta(seconds=intent.holdout)
        return cls(start, end, intent.champion, intent.refit, intent.slices, intent.backtest)

    @classmethod
    def load(cls, plain: dict[str, Any] | None) -> Self | None:
        """From what `plain` gave."""
        if plain is None:
            return None
        times = {name: dt.datetime.fromisoformat(plain[name]) for name in ("start", "end")}
        return cls(**{**plain, **times, "slices": tuple(plain["slices"])})

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        times = {name: getattr(self, name).isoformat() for name in ("start", "end")}
        return {**vars(self), **times, "slices": list(self.slices)}

    @property
    def first(self) -> np.datetime64:
        """`start` as frames hold it."""
        return np.datetime64(self.start.astimezone(dt.UTC).replace(tzinfo=None), "us")

    def bind(self, trial: str) -> dict[str, Any]:
        """What the refitted bundle's lineage says of how its recipe was proven."""
        held = {"start": self.start.isoformat(), "end": self.end.isoformat()}
        return {"trial": trial, "champion": self.champion, "holdout": held}


@dataclass(frozen=True)
class Tried:
    """A run's rows and recipe, once its trees are grown."""

    frame: pl.DataFrame
    computed: pl.DataFrame
    labels: np.ndarray
    cut: int
    """Rows from here on are held out."""
    parameters: dict[str, Any]
    rounds: int


def end_of(frame: pl.DataFrame, data: DataSpec) -> str:
    """The day after the last row's, ISO."""
    last = frame[data.time].max()
    assert isinstance(last, dt.datetime)
    return snapshots.day_after(last).isoformat()


def prove(store: Store, intent: Intent, proof: Proof, tried: Tried, trial: str, bundle: str) -> dict[str, Any]:
    """Store the table of held-out rows; `holdout` and `candidate` of result.json.

    `candidate` tells of the bundle that users would meet: size, seconds per row, whether it answers as when it was
    made, and what a floor may ask of it. The table's answers are the trial's.
    """
    threads = intent.project.training.threads
    frame, labels = tried.frame[tried.cut :], tried.labels[tried.cut :]
    mine = Loaded(store, trial, intent.cache, threads=threads).outputs(frame)
    champion, theirs, problem = _champion(store, intent, proof, frame)
    table = _table(intent, proof, frame, labels, mine, theirs)
    end = champion.data_end() if champion is not None else None
    final = Loaded(store, bundle, intent.cache, threads=threads)
    found = {
        "champion": proof.champion,
        "champion_data_end": None if end is None else end.isoformat(),
        "champion_problem": problem,
        "size": final.size,
        "seconds_per_row": _seconds_per_row(final),
        "parity": final.answers_as_made(),
        "refit": _figures(intent, labels, final.outputs(frame)) if bundle != trial else {},
        "kpi": _kpi(store, intent, bundle, frame, labels, (mine, theirs), end),
        "backtest": backtest.spans(intent.project, proof, tried, champion.lineage if champion else None, end),
    }
    buffer = io.BytesIO()
    table.write_parquet(buffer, compression="zstd")
    raw = buffer.getvalue()
    store.write(layout.run(intent.run_id, TABLE), raw)
    held = {"start": proof.start.isoformat(), "end": proof.end.isoformat(), "rows": frame.height}
    return {"holdout": {**held, "sha256": sha256(raw)}, "candidate": found}


def _champion(
    store: Store, intent: Intent, proof: Proof, frame: pl.DataFrame
) -> tuple[Loaded | None, np.ndarray | None, str | None]:
    """The champion and its answers, or why there are none."""
    if proof.champion is None:
        return None, None, "no champion was named"
    try:
        champion = Loaded(store, proof.champion, intent.cache, threads=intent.project.training.threads)
    except Exception as error:  # noqa: BLE001  its code is the author's; whatever is wrong with it is told
        return None, None, f"bundle {proof.champion[:12]} cannot be loaded: {explain(error) or error}"
    try:
        return champion, champion.outputs(frame), None
    except Exception as error:  # noqa: BLE001  as above
        return champion, None, f"bundle {proof.champion[:12]} does not answer: {explain(error) or error}"


def _table(
    intent: Intent,
    proof: Proof,
    frame: pl.DataFrame,
    labels: np.ndarray,
    mine: np.ndarray,
    theirs: np.ndarray | None,
) -> pl.DataFrame:
    lists = pl.List(pl.Float64)
    asked = [None] * frame.height if theirs is None else theirs.astype(np.float64).tolist()
    columns = [
        frame[intent.project.data.time].alias("time"),
        pl.Series("label", labels.astype(np.float64)),
        pl.Series("candidate", mine.astype(np.float64).tolist(), dtype=lists),
        pl.Series("champion", asked, dtype=lists),
    ]
    known = [name for name in proof.slices if name in frame.columns]
    return pl.DataFrame([*columns, *(frame[name].cast(pl.String).alias(SLICE + name) for name in known)])


def _figures(intent: Intent, labels: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    shaped = outputs if intent.project.task.type == "multiclass" else outputs[:, 0]
    return measures.measure(intent.project.task, labels, shaped)


def _seconds_per_row(model: Loaded) -> float:
    """The median over golden rows of the shortest time each took alone."""
    taken = []
    for row in model.questions:
        tries = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            model.golden([row])
            tries.append(time.perf_counter() - started)
        taken.append(min(tries))
    return float(np.median(taken))


def _kpi(
    store: Store,
    intent: Intent,
    bundle: str,
    frame: pl.DataFrame,
    labels: np.ndarray,
    outputs: tuple[np.ndarray, np.ndarray | None],
    end: dt.date | None,
) -> dict[str, Any]:
    """The project's own figure of both models, on held-out rows that the champion has not learnt from."""
    found: dict[str, Any] = {"candidate": None, "champion": None, "problem": None}
    path = intent.project.monitoring.kpi
    if path is None:
        return found
    fair = np.ones(frame.height, dtype=bool)
    if end is not None:
        fair = (frame[intent.project.data.time].dt.date() >= end).to_numpy()
    inputs = frame.select(
        [name for name, column in intent.project.data.columns.items() if column.known == "before"]
    ).filter(pl.Series(fair))
    try:
        folder = code.unpack(store, bundles.manifest(store, bundle)["code"], intent.cache / "code")
        function = code.load(folder, path)
        for name, answers in zip(("candidate", "champion"), outputs, strict=True):
            if answers is None:
                continue
            shaped = answers[fair] if intent.project.task.type == "multiclass" else answers[fair][:, 0]
            output = pl.Series("output", shaped.astype(np.float64).tolist())
            value = float(function(inputs.with_columns(output, pl.Series("label", labels[fair].astype(np.float64)))))
            found[name] = value if np.isfinite(value) else None
    except Exception as error:  # noqa: BLE001  the function is the author's
        found["problem"] = f"monitoring.kpi: {type(error).__name__}: {error}"
    return found
