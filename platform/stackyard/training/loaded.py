"""A stored bundle, asked for its answers with its own code and schema: what its users would get."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import xgboost

from stackyard.data import code, features, snapshots
from stackyard.data.errors import DataError
from stackyard.data.features import FeatureFunction, FeatureSchema
from stackyard.spec.models import ColumnSpec, DataSpec, TaskSpec
from stackyard.store import bundles, layout
from stackyard.store.objects import Store
from stackyard.training import predict

TOLERANCE = 1e-5
"""How far a golden answer may be off: float32 sums in another order differ by less."""


class Loaded:
    """A bundle whose every byte was checked before a parser saw it."""

    def __init__(self, store: Store, digest: str, cache: Path, *, threads: int) -> None:
        """Raises BundleError for one that must not be loaded, DataError for code that cannot be."""
        folder = bundles.fetch(store, digest, cache / "bundles")
        read = {path.stem: json.loads(path.read_bytes()) for path in folder.glob("*.json")}
        columns = {
            name: ColumnSpec.model_validate(raw, strict=False) for name, raw in read["inputs"]["columns"].items()
        }
        self.lineage: dict[str, Any] = read["lineage"]
        self.task = TaskSpec.model_validate(read["task"], strict=False)
        self._golden = read["golden"]
        self._data = DataSpec.model_construct(time=read["inputs"]["time"], columns=columns)
        self._schema = FeatureSchema.model_validate(read["features"]["schema"])
        archive = code.unpack(store, read["manifest"]["code"], cache / "code")
        self._function: FeatureFunction = code.load(archive, read["features"]["function"])
        model = (folder / "model.ubj").read_bytes()
        self.size = len(model)
        self._model: xgboost.Booster = predict.booster(model, threads=threads)
        self._store = store

    def outputs(self, frame: pl.DataFrame) -> np.ndarray:
        """Outputs [rows, outputs] for rows that hold the bundle's inputs among their columns."""
        missing = [name for name in self._data.columns if name not in frame.columns]
        if missing:
            raise DataError(f"the rows lack {', '.join(missing)}, which this bundle asks for")
        matrix = self._schema.encode(features.compute(self._function, frame, self._data))
        return predict.outputs(self._model, matrix).reshape(frame.height, -1)

    def golden(self, rows: list[dict[str, Any]] | None = None) -> list[list[float]]:
        """Its answers to its own golden rows, or to some of them, on the path that serving takes."""
        asked = self.questions if rows is None else rows
        return predict.answers(asked, self._data, self._function, self._schema, self._model)

    @property
    def questions(self) -> list[dict[str, Any]]:
        """The golden rows, as a caller would send them."""
        return self._golden["inputs"]

    def answers_as_made(self) -> bool:
        """Whether the golden rows, together and one by one, are answered as they were when the bundle was made."""
        expected = np.asarray(self._golden["outputs"])
        together, alone = self.golden(), [self.golden([row])[0] for row in self.questions]
        return all(
            np.shape(found) == expected.shape and np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)
            for found in (together, alone)
        )

    def data_end(self) -> dt.date | None:
        """The day after the last one it learnt from; None when neither lineage nor snapshot tells."""
        if (end := self.lineage.get("data_end")) is not None:
            return dt.date.fromisoformat(end)
        try:
            manifest = json.loads(self._store.read(layout.snapshot_manifest(self.lineage["snapshot"])))
        except KeyError:
            return None
        return snapshots.day_after(dt.datetime.fromisoformat(manifest["time"]["last"]))
