"""What inputs, features, predictions and labels looked like when a model was made: the bins of all later data.

Training writes it into the bundle (`reference.json`), monitoring reads it. Version 2 holds sketches; version 1, of
older bundles, described features alone, and is read as sketches without inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from stackyard.data.sketches import Sketch

KIND, VERSION = "reference", 2


@dataclass(frozen=True)
class Reference:
    """The sketches of one bundle's training data."""

    rows: int
    inputs: dict[str, Sketch]
    """By input column, times excepted; empty for bundles of version 1."""
    features: dict[str, Sketch]
    outputs: tuple[Sketch, ...]
    """One for binary (probability of true) and regression, one for each class of multiclass."""
    label: Sketch
    """Numbers 0/1 or values; for multiclass categories "0", "1", ... (numbers in version 1)."""

    def plain(self) -> dict[str, Any]:
        """The document in the bundle, JSON-ready."""
        return {
            "kind": KIND,
            "version": VERSION,
            "rows": self.rows,
            "inputs": {name: sketch.plain() for name, sketch in self.inputs.items()},
            "features": {name: sketch.plain() for name, sketch in self.features.items()},
            "outputs": [sketch.plain() for sketch in self.outputs],
            "label": self.label.plain(),
        }

    @classmethod
    def load(cls, plain: Mapping[str, Any]) -> Reference:
        """The reference in a bundle's document. Raises ValueError for a newer version or another document."""
        version = plain.get("version")
        if plain.get("kind") != KIND or version not in (1, VERSION):
            raise ValueError(f"this is no reference of version 1 or {VERSION}: {plain.get('kind')} {version}")
        read = _first_version if version == 1 else Sketch.load
        return cls(
            rows=int(plain["rows"]),
            inputs={name: read(found) for name, found in plain.get("inputs", {}).items()},
            features={name: read(found) for name, found in plain["features"].items()},
            outputs=tuple(read(found) for found in plain["outputs"]),
            label=read(plain["label"]),
        )

    def sketch_outputs(self, outputs: np.ndarray) -> list[Sketch]:
        """Sketches of outputs [rows] or [rows, outputs] in this reference's bins."""
        columns = np.asarray(outputs, np.float64).reshape(len(outputs), len(self.outputs))
        return [bins.empty().add(pl.Series(columns[:, place])) for place, bins in enumerate(self.outputs)]

    def sketch_labels(self, labels: np.ndarray) -> Sketch:
        """The sketch of labels [rows] in this reference's bins; NaN is missing."""
        values = pl.Series(np.asarray(labels, np.float64), nan_to_null=True)
        return self.label.empty().add(class_names(values) if self.label.kind == "category" else values)


def class_names(numbers: pl.Series) -> pl.Series:
    """Class numbers as the categories "0", "1", ..."""
    return numbers.cast(pl.Int64, strict=False).cast(pl.String)


def _first_version(found: Mapping[str, Any]) -> Sketch:
    if found["type"] == "category":
        named, other = dict(sorted(found["counts"].items())), int(found["other"])
        counts = np.array([*named.values(), *([other] if other else [])], np.int64)
        return Sketch(
            kind="category",
            names=tuple(named),
            counts=counts,
            missing=int(found["missing"]),
            total=int(counts.sum()) + int(found["missing"]),
        )
    counts = np.array(found["counts"] or [0], np.int64)
    return Sketch(
        kind="number",
        edges=tuple(found["edges"]),
        counts=counts,
        missing=int(found["missing"]),
        total=int(counts.sum()) + int(found["missing"]),
        **{name: found[name] for name in ("mean", "std", "minimum", "maximum")},
    )
