"""From request rows to outputs, on exactly the path that serving takes: golden answers are worth nothing otherwise."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import xgboost

from stackyard.data import features
from stackyard.data.features import FeatureFunction, FeatureSchema
from stackyard.spec.models import DataSpec

GOLDEN_ROWS = 16


def booster(model: bytes, *, threads: int) -> xgboost.Booster:
    """The booster in `model` (ubj), whose digest the caller has checked."""
    found = xgboost.Booster(model_file=bytearray(model))
    found.set_param({"nthread": threads})
    return found


def outputs(model: xgboost.Booster, matrix: np.ndarray) -> np.ndarray:
    """Outputs for `matrix` [rows, features]: [rows], or [rows, classes] for multiclass; float32."""
    return model.inplace_predict(matrix, validate_features=False)


def answers(
    rows: list[dict[str, Any]],
    data: DataSpec,
    function: FeatureFunction,
    schema: FeatureSchema,
    model: xgboost.Booster,
) -> list[list[float]]:
    """The outputs for request `rows`, one list of floats each."""
    frame = features.request_frame(json.loads(json.dumps(rows)), features.before(data))
    found = outputs(model, schema.encode(features.compute(function, frame, data)))
    return [[float(value) for value in row] for row in found.reshape(len(rows), -1)]


def golden_rows(frame: pl.DataFrame, data: DataSpec) -> list[dict[str, Any]]:
    """At most 16 rows, spread over the window, as a caller would send them: the same for the same rows."""
    places = sorted({int(place) for place in np.linspace(0, frame.height - 1, min(frame.height, GOLDEN_ROWS))})
    return features.rows(frame[places], features.before(data))
