"""The bundle of a finished run: everything serving and monitoring need, and nothing that can carry code."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import numpy as np
import polars as pl

from stackyard.data import features
from stackyard.data.features import FeatureFunction, FeatureSchema
from stackyard.spec.metrics import metric
from stackyard.store import bundles
from stackyard.store.documents import canonical
from stackyard.store.objects import Store, sha256
from stackyard.training import card, predict, reference
from stackyard.training.intent import Intent

RECORDED = ("stackyard", "ray", "xgboost-cpu", "polars", "numpy", "scikit-learn")
"""Distributions whose versions are part of the lineage: they decide the model's bytes or its figures."""


@dataclass(frozen=True)
class Finished:
    """What a run has when its last tree is grown."""

    frame: pl.DataFrame
    """The snapshot's rows."""
    features: pl.DataFrame
    matrix: np.ndarray
    """The features, encoded by `schema`."""
    labels: np.ndarray
    schema: FeatureSchema
    function: FeatureFunction
    model: bytes
    rounds: int
    metrics: dict[str, dict[str, float]]
    snapshot: str
    code: str
    parameters: dict[str, Any]
    bound: dict[str, Any] = field(default_factory=dict)
    """What a retraining adds to the lineage: its recipe, its data's end, and the trial and rows it was proven on."""


def publish(store: Store, intent: Intent, done: Finished) -> tuple[str, str]:
    """Store the bundle of `done`; returns its digest and the model's."""
    project = intent.project
    model = predict.booster(done.model, threads=project.training.threads)
    digest = sha256(done.model)
    trail = lineage(intent, done)
    files = {
        "task.json": project.task.model_dump(mode="json"),
        "inputs.json": {
            "time": project.data.time,
            "columns": {name: spec.model_dump(mode="json") for name, spec in features.before(project.data).items()},
        },
        "features.json": {"function": project.features.function, "schema": done.schema.model_dump(mode="json")},
        "golden.json": _golden(intent, done, model),
        "metrics.json": {"figure": metric(project.task), **done.metrics},
        "reference.json": reference.describe(
            done.frame.select(list(features.before(project.data))),
            done.features,
            predict.outputs(model, done.matrix),
            done.labels,
        ),
        "lineage.json": trail,
    }
    important = card.importance(model, list(done.schema.names))
    text = card.write(trail, _facts(intent, done), done.metrics, important)
    contents = {name: canonical(value) for name, value in files.items()}
    contents |= {"model.ubj": done.model, "card.md": text.encode()}
    facts = {"model": project.name, "model_digest": digest, "code": done.code, "snapshot": done.snapshot}
    return bundles.publish(store, contents, facts), digest


def lineage(intent: Intent, done: Finished) -> dict[str, Any]:
    """What the model was made from and with; enough to make the same bytes again."""
    return {
        "run": intent.run_id,
        "snapshot": done.snapshot,
        "code": done.code,
        "commit": intent.facts.commit,
        "dirty": intent.facts.dirty,
        "lock": intent.facts.lock,
        "plan": intent.facts.plan,
        "parameters": done.parameters,
        "rounds": done.rounds,
        "seed": intent.project.training.seed,
        "workers": intent.project.training.workers,
        "threads": intent.project.training.threads,
        "versions": versions(),
        **done.bound,
    }


def versions() -> dict[str, str]:
    """Versions of Python and of what decides a model's bytes."""
    found = {"python": platform.python_version()}
    for name in RECORDED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _golden(intent: Intent, done: Finished, model: Any) -> dict[str, Any]:
    data = intent.project.data
    rows = predict.golden_rows(done.frame, data)
    return {"inputs": rows, "outputs": predict.answers(rows, data, done.function, done.schema, model)}


def _facts(intent: Intent, done: Finished) -> dict[str, Any]:
    task, times = intent.project.task, done.frame[intent.project.data.time]
    return {
        "model": intent.project.name,
        "task": task.type,
        "label": task.label,
        "metric": metric(task),
        "rows": done.frame.height,
        "start": times.min(),
        "end": times.max(),
    }
