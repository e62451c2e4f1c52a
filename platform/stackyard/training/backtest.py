"""Would the recipe have been worth it earlier, too? It is tried on spans before the rows held out.

The champion itself may have learnt from those spans, so a stand-in takes its place: its parameters and rounds, fitted
on rows that end as long before the span as the champion's own data ends before the hold-out.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xgboost

from stackyard.data.features import FeatureSchema
from stackyard.spec.metrics import metric, more_is_better
from stackyard.spec.models import ProjectSpec
from stackyard.training import measures, predict

if TYPE_CHECKING:
    from stackyard.training.proof import Proof, Tried

LEAST_ROWS = 100
"""Rows to learn from or to judge by, below which a span tells nothing."""


def spans(
    project: ProjectSpec, proof: Proof, tried: Tried, champion: Mapping[str, Any] | None, end: dt.date | None
) -> list[dict[str, Any]]:
    """One entry per earlier span, the newest first: start, rows, both figures and `difference` (more is better).

    `difference` is None, with a `problem`, where a span or what precedes it is too short. Each span costs two fits
    of the recipe, in this process, on the run's threads.
    """
    length = proof.end - proof.start
    times = tried.frame[project.data.time].to_numpy()
    known = end is not None and champion is not None
    age = max(proof.start - dt.datetime.combine(end, dt.time(), dt.UTC), dt.timedelta()) if end else dt.timedelta()
    found: list[dict[str, Any]] = []
    for place in range(1, proof.backtest + 1):
        start = proof.start - place * length
        old, begin, stop = (int(np.searchsorted(times, _plain(at))) for at in (start - age, start, start + length))
        entry = {"start": start.isoformat(), "rows": stop - begin, "difference": None}
        if not known:
            found.append({**entry, "problem": "the champion's recipe is not known"})
        elif min(old, stop - begin) < LEAST_ROWS:
            found.append({**entry, "problem": f"{old} rows before and {stop - begin} in it are too few"})
        else:
            assert champion is not None
            theirs = (dict(champion["parameters"]), int(champion["rounds"]))
            mine = _figure(project, tried, (tried.parameters, tried.rounds), begin, (begin, stop))
            rival = _figure(project, tried, theirs, old, (begin, stop))
            found.append({**entry, **_compared(project, mine, rival)})
    return found


def _compared(project: ProjectSpec, mine: float | None, rival: float | None) -> dict[str, Any]:
    name = metric(project.task)
    if mine is None or rival is None:
        return {"difference": None, "problem": f"its rows cannot give the {name}"}
    return {"recipe": mine, "stand_in": rival, "difference": mine - rival if more_is_better(name) else rival - mine}


def _figure(
    project: ProjectSpec, tried: Tried, fitted: tuple[dict[str, Any], int], end: int, span: tuple[int, int]
) -> float | None:
    """The deciding figure on the rows of `span`, of a model fitted on those before row `end`."""
    schema = FeatureSchema.fit(tried.computed[:end])
    threads = project.training.threads
    rows = schema.encode(tried.computed[:end])
    told = {**fitted[0], "nthread": threads, "seed": project.training.seed}
    matrix = xgboost.DMatrix(rows, label=tried.labels[:end], nthread=threads)
    model = xgboost.train(told, matrix, fitted[1], verbose_eval=False)
    outputs = predict.outputs(model, schema.encode(tried.computed[span[0] : span[1]]))
    return measures.measure(project.task, tried.labels[span[0] : span[1]], outputs).get(metric(project.task))


def _plain(time: dt.datetime) -> np.datetime64:
    return np.datetime64(time.astimezone(dt.UTC).replace(tzinfo=None), "us")
