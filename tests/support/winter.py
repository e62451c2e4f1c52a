"""A champion of the flights of January and February 2013, as training would have left it, and how it answers."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import xgboost

from stackyard.data import code, sources
from stackyard.data.features import FeatureSchema
from stackyard.spec import plain
from stackyard.spec.models import ProjectSpec, WindowSpec
from stackyard.spec.stack import load
from stackyard.store.documents import canonical
from stackyard.training import reference

ROOT = Path(__file__).resolve().parents[2]
FLIGHTS = ROOT / "examples" / "flights"
WINTER = WindowSpec(start=dt.date(2013, 1, 1), end=dt.date(2013, 3, 1))


@dataclass(frozen=True)
class Winter:
    """A champion of January and February: its bundle's files but for the model's own, and how it answers."""

    project: ProjectSpec
    files: dict[str, bytes]
    model: xgboost.Booster
    schema: FeatureSchema

    @classmethod
    def learnt(cls) -> Winter:
        """Fitted as the flights' spec says."""
        project = load(ROOT / "stacks" / "local.yaml").project
        rows = sources.read(project.data, FLIGHTS, WINTER)
        features, labels = _features(project, rows), rows["late"].cast(pl.Float64).to_numpy()
        schema = FeatureSchema.fit(features)
        matrix = schema.encode(features)
        parameters = {"objective": "binary:logistic", "nthread": 1, **project.training.parameters}
        model = xgboost.train(parameters, xgboost.DMatrix(matrix, labels), project.training.rounds)
        answers = np.asarray(model.inplace_predict(matrix), np.float64)
        known = rows.select([name for name, column in project.data.columns.items() if column.known == "before"])
        columns = {name: plain.dump(column) for name, column in project.data.columns.items()}
        files = {
            "task": plain.dump(project.task),
            "inputs": {"time": project.data.time, "columns": {name: columns[name] for name in known.columns}},
            "features": {"function": project.features.function, "schema": schema.model_dump(mode="json")},
            "reference": reference.describe(known, features, answers, labels),
            "metrics": {"figure": "auc", "test": {"auc": 0.69, "rows": 2000.0}},
            "lineage": {"recipe": "r" * 64, "data_end": WINTER.end.isoformat()},
        }
        return cls(project, {f"{name}.json": canonical(value) for name, value in files.items()}, model, schema)

    def answers(self, rows: pl.DataFrame) -> np.ndarray:
        """[rows]: chances of being late."""
        matrix = self.schema.encode(_features(self.project, rows))
        return np.asarray(self.model.inplace_predict(matrix), np.float64)


def _features(project: ProjectSpec, rows: pl.DataFrame) -> pl.DataFrame:
    return code.load(FLIGHTS, project.features.function)(rows)
