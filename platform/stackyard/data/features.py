"""From rows to numbers, in training and in serving by the same few functions.

What is known only later must never reach a feature, so the user's function is handed the `before` columns and
nothing else. What a client sends is read strictly: a guess about a type or a time zone would be a silent wrong
answer. This runs on every request, so one row costs tens of microseconds; see the notes where that shaped it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from stackyard.data.errors import DataError
from stackyard.data.requests import InputError, request_frame
from stackyard.spec.models import ColumnSpec, DataSpec

__all__ = [
    "Feature",
    "FeatureError",
    "FeatureFunction",
    "FeatureSchema",
    "InputError",
    "before",
    "compute",
    "request_frame",
]

FeatureFunction = Callable[[pl.DataFrame], pl.DataFrame]

Kind = Literal["number", "boolean", "category"]

_KINDS: dict[type, Kind | None] = {
    **dict.fromkeys([pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64], "number"),
    **dict.fromkeys([pl.Float32, pl.Float64], "number"),
    **dict.fromkeys([pl.String, pl.Categorical, pl.Enum], "category"),
    pl.Boolean: "boolean",
    pl.Null: None,
}
_FLOATS = (pl.Float32, pl.Float64)

FEW_ROWS = 2048
"""Up to here a dictionary look-up per value is faster than a cast to an Enum (40 us a column on one row)."""


class FeatureError(DataError):
    """The feature function gave something that is not a feature, or not what the model was trained on."""


def before(data: DataSpec) -> dict[str, ColumnSpec]:
    """The columns known before a prediction, in the spec's order: all that a feature function ever sees."""
    return {name: column for name, column in data.columns.items() if column.known == "before"}


def compute(function: FeatureFunction, frame: pl.DataFrame, data: DataSpec) -> pl.DataFrame:
    """The features of `frame` ([rows, columns], in any order): as many rows, in the same order.

    Raises FeatureError when the result is no frame, has other rows, or holds types or numbers no model takes
    (numbers, booleans and strings are taken; a missing value is null, never NaN or infinity). What the function
    itself raises passes through.
    """
    names = [name for name, column in data.columns.items() if column.known == "before"]
    known = frame if frame.columns == names else frame.select(names)
    found = function(known)
    if not isinstance(found, pl.DataFrame):
        raise FeatureError(f"the feature function must return a polars DataFrame, not {type(found).__name__}")
    if found.height != frame.height or found.width == 0:
        raise FeatureError(
            f"the feature function got {frame.height} rows and returned {found.height} rows of {found.width} features"
        )
    for series in found.get_columns():
        if _kind(series) == "number" and type(series.dtype) in _FLOATS:
            _check_finite(series)
    return found


class Feature(BaseModel):
    """One input of the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """The column's name in the frame of features."""
    kind: Kind
    """How it becomes a number: as it is, 0/1, or by its place among `categories`."""
    categories: tuple[str, ...] = ()
    """Values seen in training, sorted; empty unless `kind` is category."""


class FeatureSchema(BaseModel):
    """Names, order and encoding of the model's inputs, fixed at training and carried in the bundle."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = 1
    """Format version of this document."""
    features: tuple[Feature, ...]
    """The inputs, in the order of the matrix's columns."""

    @classmethod
    def fit(cls, frame: pl.DataFrame) -> FeatureSchema:
        """The schema of a training frame of features. Raises FeatureError for a type no model takes."""
        found: list[Feature] = []
        for series in frame.get_columns():
            kind = _kind(series)
            values = tuple(series.cast(pl.String).drop_nulls().unique().sort().to_list()) if kind == "category" else ()
            found.append(Feature(name=series.name, kind=kind or "number", categories=values))
        return cls(features=tuple(found))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The features' names, in order."""
        return tuple(feature.name for feature in self.features)

    def encode(self, frame: pl.DataFrame) -> np.ndarray:
        """float32 [rows, features], row-major; a missing value or an unseen category is NaN.

        Raises FeatureError when columns or their kinds differ from training, or a number does not fit float32.
        """
        if tuple(frame.columns) != self.names:
            raise FeatureError(_difference(frame.columns, self.names))
        matrix = np.empty((frame.height, len(self.features)), dtype=np.float32)
        with np.errstate(over="ignore"):
            for place, (series, feature) in enumerate(zip(frame.get_columns(), self.features, strict=True)):
                kind = _kind(series)
                if kind is not None and kind != feature.kind:
                    raise FeatureError(f"feature {feature.name} is a {kind} here and was a {feature.kind} in training")
                matrix[:, place] = np.nan if kind is None else self._column(series, place)
        if np.isinf(matrix).any():
            name = self.names[int(np.isinf(matrix).any(axis=0).argmax())]
            raise FeatureError(f"feature {name} holds a number that float32 cannot hold")
        return matrix

    @cached_property
    def _codes(self) -> tuple[dict[str, int], ...]:
        return tuple({value: code for code, value in enumerate(feature.categories)} for feature in self.features)

    def _column(self, series: pl.Series, place: int) -> np.ndarray | list[float]:
        if self.features[place].kind == "category":
            codes = self._codes[place]
            if series.dtype != pl.String:
                series = series.cast(pl.String)
            if series.len() <= FEW_ROWS:
                return [codes.get(value, np.nan) for value in series.to_list()]
            levels = pl.Enum(self.features[place].categories)
            series = series.cast(levels, strict=False).to_physical().cast(pl.Float32)
        elif series.dtype == pl.Boolean:
            series = series.cast(pl.Float32)
        return series.to_numpy()  # nulls of numbers become NaN


def _kind(series: pl.Series) -> Kind | None:
    """What the series is to a model; None when every value is missing and it has no type."""
    try:
        return _KINDS[type(series.dtype)]
    except KeyError:
        raise FeatureError(
            f"feature {series.name} has type {series.dtype}: only numbers, booleans and strings can be features"
        ) from None


def _check_finite(series: pl.Series) -> None:
    values = series.to_numpy()
    wrong = series.len() - series.null_count() - int(np.isfinite(values).sum())
    if wrong:
        raise FeatureError(
            f"feature {series.name} is NaN or infinite in {wrong} of {series.len()} rows: use null for a missing value"
        )


def _difference(found: list[str], expected: tuple[str, ...]) -> str:
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    parts = [f"lacks {', '.join(missing)}"] if missing else []
    parts += [f"adds {', '.join(unknown)}"] if unknown else []
    return f"the feature frame is not the one of training: {' and '.join(parts) or 'its columns are in another order'}"


def rows(frame: pl.DataFrame, columns: Mapping[str, ColumnSpec]) -> list[dict[str, object]]:
    """The named columns of `frame` as JSON-ready rows that `request_frame` reads back to the same frame."""
    texts = [
        pl.col(name).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ") if column.type == "datetime" else pl.col(name)
        for name, column in columns.items()
    ]
    return frame.select(texts).to_dicts()
