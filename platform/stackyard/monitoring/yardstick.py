"""What days are measured by: a bundle's reference, and its frozen code to make features as it does itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from stackyard.data import code, features
from stackyard.data.errors import DataError
from stackyard.data.reference import Reference
from stackyard.spec.models import ColumnSpec, DataSpec, TaskSpec
from stackyard.store import bundles
from stackyard.store.objects import Store

OWN_COLUMNS = ("outputs", "label", "output")
"""Names that a frame of labelled rows keeps for itself; an input of that name is not watched."""


@dataclass(frozen=True)
class Yardstick:
    """One bundle, as far as evidence needs it: no model is loaded."""

    bundle: str
    reference: Reference
    task: TaskSpec
    columns: dict[str, ColumnSpec]
    """The named inputs, in order."""
    figures: dict[str, float]
    """The release figures: what the bundle showed on its test rows."""
    data_end: str | None
    """The day after the newest row it learnt from, ISO, where the bundle says so."""
    code_folder: Path
    data: DataSpec
    """Time and columns alone."""
    _features: Callable[[pl.DataFrame], pl.DataFrame]

    @classmethod
    def load(cls, store: Store, bundle: str, cache: Path) -> Yardstick:
        """Of a bundle in the store, every byte checked. Raises BundleError or DataError."""
        folder = bundles.fetch(store, bundle, cache / "bundles")
        read = {
            name: json.loads((folder / f"{name}.json").read_bytes())
            for name in ("task", "inputs", "features", "reference", "metrics", "lineage", "manifest")
        }
        specs = {name: ColumnSpec.model_validate(raw, strict=False) for name, raw in read["inputs"]["columns"].items()}
        columns = {name: spec for name, spec in specs.items() if spec.known == "before"}
        code_folder = code.unpack(store, str(read["manifest"]["code"]), cache / "code")
        reference = Reference.load(read["reference"])
        watched = {name: sketch for name, sketch in reference.inputs.items() if name not in OWN_COLUMNS}
        return cls(
            bundle=bundle,
            reference=replace(reference, inputs=watched),
            task=TaskSpec.model_validate(read["task"], strict=False),
            columns=columns,
            figures=_figures(read["metrics"]),
            data_end=_data_end(read["lineage"]),
            code_folder=code_folder,
            data=DataSpec.model_construct(time=read["inputs"]["time"], columns=columns),
            _features=code.load(code_folder, read["features"]["function"]),
        )

    @property
    def watched(self) -> DataSpec:
        """`data` without the columns whose names a frame of rows keeps for itself."""
        kept = {name: spec for name, spec in self.columns.items() if name not in OWN_COLUMNS}
        return DataSpec.model_construct(time=self.data.time, columns=kept)

    @property
    def width(self) -> int:
        """Outputs of a row."""
        return len(self.reference.outputs)

    def features(self, inputs: pl.DataFrame) -> pl.DataFrame:
        """The features of `inputs` by the bundle's own code. Raises DataError, whatever the code raises."""
        try:
            return features.compute(self._features, inputs, self.data)
        except Exception as error:  # the function is the user's: whatever it raises is its answer to these rows
            raise DataError(f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}") from error

    def function(self, path: str) -> Callable[..., Any]:
        """Another function of the same frozen code. Raises DataError."""
        return code.load(self.code_folder, path)


def _figures(metrics: dict[str, Any]) -> dict[str, float]:
    """Figures on rows that the model did not learn from, else none."""
    for name in ("test", "holdout"):
        if isinstance(metrics.get(name), dict):
            return {key: float(value) for key, value in metrics[name].items() if isinstance(value, int | float)}
    return {}


def _data_end(lineage: dict[str, Any]) -> str | None:
    end = lineage.get("data_end")
    return str(end)[:10] if end else None
