"""What features and predictions looked like when the model was made: what later data is compared with.

Numbers are described by moments and by counts between deciles (edges are the distinct deciles; values below the
first and above the last edge fall into the outer bins, which are open). Categories by their counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

KIND, VERSION = "reference", 1
MOST_CATEGORIES = 200
_DECILES = np.linspace(0.0, 1.0, 11)


def describe(features: pl.DataFrame, outputs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Statistics of `features` (one row per example), of outputs [rows] or [rows, classes], and of labels [rows]."""
    columns = outputs.reshape(len(outputs), -1)
    return {
        "kind": KIND,
        "version": VERSION,
        "rows": features.height,
        "features": {name: column(features[name]) for name in features.columns},
        "outputs": [number(columns[:, place]) for place in range(columns.shape[1])],
        "label": number(labels),
    }


def column(values: pl.Series) -> dict[str, Any]:
    """Statistics of one feature, by its type."""
    if values.dtype == pl.String or values.dtype in (pl.Categorical, pl.Enum):
        return _categories(values.cast(pl.String))
    return number(values.cast(pl.Float64).fill_null(float("nan")).to_numpy())


def number(values: np.ndarray) -> dict[str, Any]:
    """Statistics of numbers; NaN counts as missing. Moments are None when nothing is left."""
    values = np.asarray(values, dtype=np.float64)
    present = values[~np.isnan(values)]
    found: dict[str, Any] = {"type": "number", "missing": int(len(values) - len(present))}
    if not len(present):
        return {**found, "mean": None, "std": None, "minimum": None, "maximum": None, "edges": [], "counts": []}
    edges = np.unique(np.quantile(present, _DECILES))[1:-1]
    return {
        **found,
        "mean": float(present.mean()),
        "std": float(present.std()),
        "minimum": float(present.min()),
        "maximum": float(present.max()),
        "edges": [float(edge) for edge in edges],
        "counts": np.bincount(np.searchsorted(edges, present, side="right"), minlength=len(edges) + 1).tolist(),
    }


def _categories(values: pl.Series) -> dict[str, Any]:
    present = values.drop_nulls()
    counts = present.value_counts(sort=False).rows()
    ordered = sorted(counts, key=lambda item: (-item[1], item[0]))
    kept = ordered[:MOST_CATEGORIES]
    return {
        "type": "category",
        "missing": len(values) - len(present),
        "counts": dict(kept),
        "other": sum(count for _, count in ordered[MOST_CATEGORIES:]),
    }
