"""From a source to what workers are given: rows frozen once per run, features by the frozen code, numbers, cuts.

What decides the model is frozen with the first try (`frozen.json`), so that another try of the same run, after the
source has moved on, learns from the same rows and proves itself on the same ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from stackyard.data import code, features, snapshots
from stackyard.data.errors import DataError, blame
from stackyard.data.features import FeatureFunction, FeatureSchema
from stackyard.store import layout
from stackyard.store.documents import canonical
from stackyard.store.objects import Store
from stackyard.training import fit, recipe
from stackyard.training.intent import Intent
from stackyard.training.proof import Proof

Told = Callable[[str, str], None]
"""Says that a phase is over, and what came of it."""


@dataclass(frozen=True)
class Data:
    """What a run learns from, once it is read and made into numbers."""

    snapshot: str
    code: str
    frame: pl.DataFrame
    computed: pl.DataFrame
    function: FeatureFunction
    early: FeatureSchema
    """As the trial may know it."""
    schema: FeatureSchema
    matrices: fit.Matrices
    cut: tuple[int, int]
    """Ends of the training and of the validation rows."""
    proof: Proof | None
    """The rows held out; None for a first model."""

    @property
    def all(self) -> tuple[pl.DataFrame, pl.DataFrame, np.ndarray, np.ndarray]:
        """Rows, features, matrix and labels, as the final model learns from them."""
        return self.frame, self.computed, self.matrices.final, self.matrices.labels

    @property
    def older(self) -> tuple[pl.DataFrame, pl.DataFrame, np.ndarray, np.ndarray]:
        """The same without the rows held out, as the trial knows them."""
        end = self.cut[1]
        return self.frame[:end], self.computed[:end], self.matrices.trial[:end], self.matrices.labels[:end]


def read(store: Store, intent: Intent, patience: int | None, told: Told) -> Data:
    """The data of a run. The source's secrets are forgotten on the way: Ray's processes do not inherit them.

    Raises DataError for rows or features that break the spec, RecipeError for labels or too few rows.
    """
    project = intent.project
    snapshot, digest, held = _freeze(store, intent)
    frame = snapshots.load(store, snapshot)
    for name in project.data.source.secrets:
        os.environ.pop(name, None)
    told("data", f"{frame.height} rows, snapshot {snapshot[:12]}")
    function, computed = _features(store, intent, digest, frame)
    labels = recipe.labels(project.task, frame[project.task.label])
    times, split = frame[project.data.time].to_numpy(), project.training.split
    cut = recipe.held_out(times, held.first, split, patience) if held else recipe.boundaries(times, split)
    schema, early = FeatureSchema.fit(computed), FeatureSchema.fit(computed[: cut[0]])
    matrices = fit.Matrices(early.encode(computed), schema.encode(computed), labels)
    told("features", f"{len(schema.names)} features")
    return Data(snapshot, digest, frame, computed, function, early, schema, matrices, cut, held)


def _freeze(store: Store, intent: Intent) -> tuple[str, str, Proof | None]:
    """Digests of snapshot and code and what is held out: as an earlier try of this run froze them, or now."""
    key = layout.run(intent.run_id, "frozen.json")
    try:
        found = json.loads(store.read(key))
        return found["snapshot"], found["code"], Proof.load(found.get("proof"))
    except KeyError:
        pass
    digest = code.publish(store, intent.project_folder)
    window, exclude = intent.window, intent.exclude
    frozen = snapshots.freeze(store, intent.project, intent.project_folder, window=window, exclude=exclude)
    held = Proof.of(intent, frozen.manifest)
    found = {"kind": "run-frozen", "version": 1, "snapshot": frozen.digest, "code": digest}
    if held is not None:
        found["proof"] = held.plain()
    store.create(key, canonical(found))
    return frozen.digest, digest, held


def _features(store: Store, intent: Intent, digest: str, frame: pl.DataFrame) -> tuple[FeatureFunction, pl.DataFrame]:
    """The frozen feature function, and what it makes of `frame`."""
    folder = code.unpack(store, digest, intent.cache)
    function = code.load(folder, intent.project.features.function)
    try:
        return function, features.compute(function, frame, intent.project.data)
    except DataError:
        raise
    except Exception as error:
        told = blame(error, folder).replace(f"{folder.resolve()}/", "")  # the author knows it by its own name
        raise DataError(f"features.function: {told}") from error
