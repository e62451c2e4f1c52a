"""What the loop is measured against: the first model that nobody ever touched again, and one that is trained anew
each month on everything before it.

Both have the loop's own features, family and parameters. Their answers are made once and kept on disk.
"""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import xgboost

from stackyard.data import code, features, loading, sources
from stackyard.data.features import FeatureFunction, FeatureSchema
from stackyard.replay.rows import Day
from stackyard.spec.models import ProjectSpec, WindowSpec
from stackyard.store import bundles
from stackyard.store.documents import digest_of
from stackyard.store.objects import Store
from stackyard.training import recipe
from stackyard.training.boost import Rows, Stage, boost

Read = Callable[[dt.date], Day]
Say = Callable[[str], None]


class Yardsticks:
    """Answers of both models for days of a replay: one number a row, as in `figures.Scored.outputs`."""

    def __init__(self, project: ProjectSpec, folder: Path, store: Store, cache: Path, read: Read, say: Say) -> None:
        """`folder`: the project's; `cache`: where answers are kept; `read` gives the rows of a day."""
        self._project, self._folder, self._store = project, folder, store
        self._cache, self._read, self._say = cache, read, say
        self._code = code.archive(folder)[1]
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)

    def frozen(self, bundle: str, days: Sequence[dt.date]) -> dict[str, float]:
        """Request id to what bundle `bundle` answers."""
        self._say("scoring the first model")
        found: dict[str, float] = {}
        model: _Model | None = None
        for day in days:
            asked = self._read(day)
            key = self._key("frozen", bundle, asked)
            if (kept := self._kept(key)) is None:
                model = model or self._of_bundle(bundle)
                kept = self._keep(key, asked, model)
            found |= kept
        return found

    def oracle(self, days: Sequence[dt.date]) -> dict[str, float]:
        """Request id to what the model trained on all rows before its month answers."""
        found: dict[str, float] = {}
        models: dict[dt.date, _Model] = {}
        for day in days:
            asked = self._read(day)
            start = max(day.replace(day=1), self._project.data.window.end)
            key = self._key("oracle", start.isoformat(), asked)
            if (kept := self._kept(key)) is None:
                if start not in models:
                    self._say(f"training the oracle of {start:%Y-%m}")
                    models = {start: self._trained(start)}
                kept = self._keep(key, asked, models[start])
            found |= kept
        return found

    def first(self) -> pl.DataFrame:
        """The features of the rows that the first model learnt from."""
        function = loading.load(self._folder, self._project.features.function)
        frame = sources.read(self._project.data, self._folder, self._project.data.window)
        return features.compute(function, frame, self._project.data)

    def features(self, day: Day) -> pl.DataFrame:
        """The features of a day's rows."""
        function = loading.load(self._folder, self._project.features.function)
        return features.compute(function, day.frame, self._project.data)

    def _trained(self, until: dt.date) -> _Model:
        project = self._project
        function = loading.load(self._folder, project.features.function)
        frame = sources.read(project.data, self._folder, WindowSpec(start=project.data.window.start, end=until))
        computed = features.compute(function, frame, project.data)
        schema, labels = FeatureSchema.fit(computed), recipe.labels(project.task, frame[project.task.label])
        training = project.training
        told = recipe.parameters(project)
        stage = Stage("final", told, training.rounds, training.checkpoint_every, training.seed + 1)
        grown = boost(stage, Rows((schema.encode(computed), labels), None), None, lambda _: None)
        return _Model(project, function, schema, grown.model)

    def _of_bundle(self, digest: str) -> _Model:
        folder = bundles.fetch(self._store, digest, self._cache / "bundles")
        manifest = json.loads((folder / "manifest.json").read_bytes())
        made = json.loads((folder / "features.json").read_bytes())
        function = code.load(code.unpack(self._store, manifest["code"], self._cache / "code"), made["function"])
        schema = FeatureSchema.model_validate(made["schema"])
        return _Model(self._project, function, schema, (folder / "model.ubj").read_bytes())

    def _key(self, kind: str, which: str, day: Day) -> Path:
        plain = self._project.model_dump(mode="json", include={"task", "data", "features", "training"})
        about = [kind, which, self._code, plain, day.day.isoformat(), sorted(day.ids)]
        return self._cache / f"{digest_of(about)}.parquet"

    def _kept(self, path: Path) -> dict[str, float] | None:
        try:
            table = pl.read_parquet(io.BytesIO(path.read_bytes()))
        except (FileNotFoundError, pl.exceptions.PolarsError):
            return None
        return dict(table.iter_rows())

    def _keep(self, path: Path, day: Day, model: _Model) -> dict[str, float]:
        outputs = model.outputs(day.frame) if day.requests else np.empty(0)
        ids = [request.request_id for request in day.requests]
        schema = {"request_id": pl.String, "output": pl.Float64}
        scratch = path.with_suffix(".part")
        pl.DataFrame([ids, outputs.astype(float)], schema=schema).write_parquet(scratch)
        scratch.replace(path)
        return dict(zip(ids, outputs.astype(float).tolist(), strict=True))


class _Model:
    """A booster with its features."""

    def __init__(self, project: ProjectSpec, function: FeatureFunction, schema: FeatureSchema, model: bytes) -> None:
        self._data, self._function, self._schema = project.data, function, schema
        self._booster = xgboost.Booster(model_file=bytearray(model))
        self._booster.set_param({"nthread": project.training.threads})

    def outputs(self, frame: pl.DataFrame) -> np.ndarray:
        """One number a row of `frame`."""
        matrix = self._schema.encode(features.compute(self._function, frame, self._data))
        found = self._booster.inplace_predict(matrix, validate_features=False)
        return found.argmax(axis=1) if found.ndim == 2 else found
