"""One bundle in memory: rows of named inputs in, finite numbers out.

The same user function and the same encoding as in training; what the golden rows gave there they must give here,
together and one by one, so that requests may share a batch without seeing one another.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from stackyard.data import code, features
from stackyard.serving.booster import xgboost
from stackyard.serving.screening import RefusedError, screen
from stackyard.spec.models import ColumnSpec, DataSpec, TaskSpec

TOLERANCE = 1e-5
"""How far a golden output may be off: float32 sums in another order differ by less."""


class UnusableRowsError(Exception):
    """The features failed on sound rows, or the model had no finite answer for them."""


class NotFiniteError(UnusableRowsError):
    """The model answered with numbers that are none."""


@dataclass(frozen=True)
class Face:
    """What a bundle says of itself, without anything of it loaded."""

    bundle: str
    name: str
    task: TaskSpec
    columns: dict[str, ColumnSpec]
    """The named inputs, in order."""

    @property
    def outputs(self) -> int:
        """Numbers per row: classes of a multiclass task, else 1."""
        return width(self.task)


def width(task: TaskSpec) -> int:
    """Numbers per row that a model of `task` answers."""
    return len(task.classes or ()) if task.type == "multiclass" else 1


def face(folder: Path, bundle: str) -> Face:
    """The face of a verified bundle `folder`. Raises what a parser raises."""
    task, inputs, facts = (
        json.loads((folder / f"{name}.json").read_bytes()) for name in ("task", "inputs", "manifest")
    )
    return Face(bundle, str(facts["model"]), TaskSpec.model_validate(task, strict=False), _columns(inputs))


@dataclass(frozen=True)
class Model:
    """A loaded bundle; `predict` is for one thread at a time."""

    bundle: str
    name: str
    task: TaskSpec
    data: DataSpec
    function: Any
    schema: features.FeatureSchema
    booster: xgboost.Booster
    golden: dict[str, Any]
    facts: dict[str, Any]

    @property
    def columns(self) -> dict[str, ColumnSpec]:
        """The named inputs, in order."""
        return self.data.columns

    @property
    def outputs(self) -> int:
        """Numbers per row: classes of a multiclass task, else 1."""
        return width(self.task)

    def frame(self, rows: list[dict[str, Any]]) -> pl.DataFrame:
        """`rows` as typed columns. Raises stackyard.data.features.InputError naming every problem."""
        return features.request_frame(rows, self.data.columns)

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        """Outputs [rows, outputs], float64, finite. Raises UnusableRowsError."""
        try:
            matrix = self.schema.encode(features.compute(self.function, frame, self.data))
            found = self.booster.inplace_predict(matrix, missing=np.nan)
        except Exception as error:  # the function is the user's: whatever it raises is its answer to these rows
            raise UnusableRowsError(f"{type(error).__name__}: {error}") from error
        found = np.asarray(found, dtype=np.float64).reshape(frame.height, -1)
        if found.shape[1] != self.outputs or not np.isfinite(found).all():
            raise NotFiniteError("the model has no finite answer for these rows")
        return found


def load(folder: Path, bundle: str, code_folder: Path) -> Model:
    """The model of a verified bundle `folder`. Raises RefusedError, or whatever a parser raises."""
    screen(folder)
    read = {
        name: json.loads((folder / f"{name}.json").read_bytes()) for name in ("task", "inputs", "features", "golden")
    }
    facts = json.loads((folder / "manifest.json").read_bytes())
    columns = _columns(read["inputs"])
    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(str(folder / "model.ubj"))
    booster.set_param({"nthread": 1, "device": "cpu"})
    return Model(
        bundle=bundle,
        name=str(facts["model"]),
        task=TaskSpec.model_validate(read["task"], strict=False),
        data=DataSpec.model_construct(time=read["inputs"]["time"], columns=columns),
        function=code.load(code_folder, read["features"]["function"]),
        schema=features.FeatureSchema.model_validate(read["features"]["schema"], strict=False),
        booster=booster,
        golden=read["golden"],
        facts=facts,
    )


def check_golden(model: Model) -> None:
    """Predict the golden rows, together and alone. Raises RefusedError when an answer is off by more than TOLERANCE."""
    rows, expected = model.golden["inputs"], np.asarray(model.golden["outputs"], dtype=np.float64)
    if not rows:
        raise RefusedError("the bundle has no golden rows")
    together = model.predict(model.frame(rows))
    if together.shape != expected.shape or not np.allclose(together, expected, rtol=TOLERANCE, atol=TOLERANCE):
        raise RefusedError("golden rows are not answered as they were after training")
    alone = np.concatenate([model.predict(model.frame([row])) for row in rows])
    if not np.allclose(alone, expected, rtol=TOLERANCE, atol=TOLERANCE):
        raise RefusedError("a golden row alone is answered otherwise than among others: features must be row by row")


def check_weights(model: Model) -> None:
    """Refuse thresholds, leaves and base scores that are not finite. Raises RefusedError."""
    raw = bytes(model.booster.save_raw("json"))
    learner = json.loads(raw, parse_constant=_not_finite)["learner"]
    numbers = [str(learner["learner_model_param"]["base_score"]).strip("[]").split(",")]
    for tree in _trees(learner["gradient_booster"]):
        numbers += [tree["split_conditions"], tree["base_weights"]]
    for values in numbers:
        if not np.isfinite(np.asarray(values, dtype=np.float64)).all():
            raise RefusedError("the model holds weights that are not finite")


def warm(model: Model) -> None:
    """Run what requests will run, so that the first of them does not pay for lazy set-up."""
    rows = model.golden["inputs"]
    for count in (1, 1, 2, len(rows)):
        model.predict(model.frame(rows[:count]))


def _columns(inputs: dict[str, Any]) -> dict[str, ColumnSpec]:
    return {
        name: spec
        for name, raw in inputs["columns"].items()
        if (spec := ColumnSpec.model_validate(raw, strict=False)).known == "before"
    }


def _trees(booster: dict[str, Any]) -> list[dict[str, Any]]:
    return booster.get("model", booster.get("gbtree", {}).get("model", {}))["trees"]


def _not_finite(text: str) -> float:
    raise RefusedError(f"the model holds weights that are not finite ({text})")
