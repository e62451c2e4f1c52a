"""What a column looks like in a few hundred numbers that add up.

Bins are fixed by the training snapshot, so the sketch of a window is the sum of its days, and replicas or days that
were summed up apart need not talk. Missing values and values that training never saw have bins of their own; the
outer bins of numbers are open. One million rows of 14 columns take a second or two and a few kilobytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import polars as pl

MOST_CATEGORIES = 200
"""Categories with a bin of their own; the rest of what training saw shares the bin `other`."""

_DECILES = np.linspace(0.0, 1.0, 11)
_FIELDS = ("missing", "unseen", "total")


@dataclass(frozen=True, eq=False)
class Sketch:
    """Counts of one column in fixed bins, and the moments of its numbers.

    Bins of numbers: below edges[0], [edges[i-1], edges[i]), ..., from edges[-1] on. Bins of categories: `names`, and
    a last one for `other` where `counts` is one longer than `names`.
    """

    kind: Literal["number", "category"]
    edges: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    counts: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    """int64 [bins]: values in each bin."""
    missing: int = 0
    unseen: int = 0
    """Categories that training never saw; for numbers, values that are none (text, infinity)."""
    total: int = 0
    """Rows: counts.sum() + missing + unseen."""
    mean: float | None = None
    """Of the numbers in `counts`; None without any. So are the next three."""
    std: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    common: float | None = None
    """Share of the most frequent single value among the numbers; known of the fitted sketch only."""

    @property
    def present(self) -> int:
        """Values in the bins: neither missing nor unseen."""
        return int(self.counts.sum())

    @property
    def table(self) -> np.ndarray:
        """int64 [bins + 2]: the counts, then unseen, then missing: every row is in exactly one."""
        return np.concatenate([self.counts, [self.unseen, self.missing]]).astype(np.int64)

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each bin of `table`."""
        if self.kind == "category":
            own = self.names if len(self.counts) == len(self.names) else (*self.names, "other")
        else:
            ends = [f"{edge:g}" for edge in self.edges]
            own = tuple(f"{low}..{high}" for low, high in zip(["", *ends], [*ends, ""], strict=True))
        return (*own, "unseen", "missing")

    def empty(self) -> Sketch:
        """The same bins without a row."""
        return Sketch(kind=self.kind, edges=self.edges, names=self.names, counts=np.zeros_like(self.counts))

    def fits(self, other: Sketch) -> bool:
        """Whether both count in the same bins."""
        bins = [(one.kind, one.edges, one.names, len(one.counts)) for one in (self, other)]
        return bins[0] == bins[1]

    def add(self, values: pl.Series) -> Sketch:
        """This sketch and `values` more: of any type, nulls and NaN are missing, what does not fit is unseen."""
        return self + (self._of_numbers(values) if self.kind == "number" else self._of_categories(values))

    def __add__(self, other: Sketch) -> Sketch:
        """The rows of both. Raises ValueError when their bins differ.

        Moments add by Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
        Variances" (1979).
        """
        if not self.fits(other):
            raise ValueError("sketches of different bins do not add up: they come from different snapshots")
        summed = replace(
            self,
            counts=self.counts + other.counts,
            **{name: getattr(self, name) + getattr(other, name) for name in _FIELDS},
            common=None,
        )
        if self.mean is None or other.mean is None:
            source = self if other.mean is None else other
            return replace(summed, mean=source.mean, std=source.std, minimum=source.minimum, maximum=source.maximum)
        return replace(summed, **_pooled(self, other))

    def plain(self) -> dict[str, Any]:
        """JSON-ready, exactly; `load` reads it back."""
        found: dict[str, Any] = {"type": self.kind, "counts": [int(count) for count in self.counts]}
        found |= {name: int(getattr(self, name)) for name in _FIELDS}
        if self.kind == "category":
            return found | {"names": list(self.names)}
        moments = {name: getattr(self, name) for name in ("mean", "std", "minimum", "maximum", "common")}
        return found | {"edges": list(self.edges), **moments}

    @classmethod
    def load(cls, plain: Mapping[str, Any]) -> Sketch:
        """The sketch that `plain` wrote. Raises ValueError for anything else."""
        try:
            kind, counts = plain["type"], np.asarray(plain["counts"], dtype=np.int64)
            numbers: dict[str, Any] = {name: int(plain[name]) for name in _FIELDS}
            if kind == "category":
                made = cls(kind="category", names=tuple(plain["names"]), counts=counts, **numbers)
                sizes = (len(made.names), len(made.names) + 1)
            else:
                moments: dict[str, Any] = {
                    name: plain.get(name) for name in ("mean", "std", "minimum", "maximum", "common")
                }
                edges = tuple(float(edge) for edge in plain["edges"])
                made = cls(kind="number", edges=edges, counts=counts, **numbers, **moments)
                sizes = (len(made.edges) + 1,)
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is no sketch: {error!r}") from None
        if kind not in ("number", "category") or len(counts) not in sizes:
            raise ValueError(f"this is no sketch: {len(counts)} counts of kind {kind}")
        if made.total != int(made.table.sum()) or (made.table < 0).any():
            raise ValueError("this is no sketch: its counts do not add up to its total")
        return made

    def _of_numbers(self, values: pl.Series) -> Sketch:
        finite, missing, unseen = _numbers(values)
        found = replace(self.empty(), missing=missing, unseen=unseen, total=len(values))
        if not len(finite):
            return found
        places = np.searchsorted(np.asarray(self.edges), finite, side="right")
        return replace(found, counts=np.bincount(places, minlength=len(self.counts)), **_moments(finite))

    def _of_categories(self, values: pl.Series) -> Sketch:
        found = _words(values).value_counts(sort=False, name="_rows").rows()
        places = {name: place for place, name in enumerate(self.names)}
        other = len(self.names) if len(self.counts) > len(self.names) else None
        counts, missing, unseen = np.zeros_like(self.counts), 0, 0
        for value, rows in found:
            place = places.get(value, other)
            if value is None:
                missing += rows
            elif place is None:
                unseen += rows
            else:
                counts[place] += rows
        return replace(self.empty(), counts=counts, missing=missing, unseen=unseen, total=len(values))


def fit(values: pl.Series) -> Sketch:
    """The sketch of training values, whose bins later values share: at most ten for numbers, 201 for categories."""
    if values.dtype == pl.String or isinstance(values.dtype, pl.Categorical | pl.Enum):
        return _fit_categories(_words(values))
    finite, *_ = _numbers(values)
    edges = _edges(finite)
    sketch = Sketch(kind="number", edges=edges, counts=np.zeros(len(edges) + 1, np.int64)).add(values)
    return replace(sketch, common=most_common(finite) if len(finite) else None)


def fit_frame(frame: pl.DataFrame) -> dict[str, Sketch]:
    """A sketch of every column of `frame` that can have one: times have none, since each is new."""
    return {series.name: fit(series) for series in frame.get_columns() if sketched(series.dtype)}


def add_frame(bins: Mapping[str, Sketch], frame: pl.DataFrame) -> dict[str, Sketch]:
    """Sketches of the columns of `frame` in the bins of `bins`, without the rows that `bins` holds.

    A column that `frame` lacks is missing in every row.
    """
    lost = pl.Series("", [None] * frame.height, dtype=pl.Null)
    return {name: sketch.empty().add(frame[name] if name in frame.columns else lost) for name, sketch in bins.items()}


def sketched(dtype: pl.DataType) -> bool:
    """Whether a column of this type has a sketch."""
    return (
        dtype.is_numeric() or dtype in (pl.Boolean, pl.String, pl.Null) or isinstance(dtype, pl.Categorical | pl.Enum)
    )


def most_common(finite: np.ndarray) -> float:
    """Share of the most frequent single value of `finite` (at least one number)."""
    return float(np.unique(finite, return_counts=True)[1].max() / len(finite))


def _numbers(values: pl.Series) -> tuple[np.ndarray, int, int]:
    """The finite numbers (float64), how many values are missing, and how many are no numbers."""
    cast = values.cast(pl.Float64, strict=False) if not values.dtype.is_temporal() else values.clear(len(values))
    numbers = cast.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
    finite = numbers[np.isfinite(numbers)]
    missing = values.null_count() + (int(values.is_nan().sum()) if values.dtype.is_float() else 0)
    return finite, missing, len(values) - missing - len(finite)


def _words(values: pl.Series) -> pl.Series:
    return values if values.dtype == pl.String else values.cast(pl.String, strict=False)


def _edges(finite: np.ndarray) -> tuple[float, ...]:
    """The distinct deciles. A value that holds several of them, a zero that is most of the column for example, gets a
    bin of its own; a bin that training leaves empty joins the next."""
    if not len(finite):
        return ()
    deciles, times = np.unique(np.quantile(finite, _DECILES), return_counts=True)
    if len(deciles) == 1:  # a constant: what lies below and above it gets bins, though training has none there
        return float(deciles[0]), float(np.nextafter(deciles[0], np.inf))
    alone = deciles[times > 1]
    edges = np.unique(np.concatenate([deciles[1:-1], alone, np.nextafter(alone, np.inf)]))
    counts = np.bincount(np.searchsorted(edges, finite, side="right"), minlength=len(edges) + 1)
    kept = edges[counts[:-1] > 0]
    return tuple(float(edge) for edge in (kept[:-1] if counts[-1] == 0 else kept))


def _moments(finite: np.ndarray) -> dict[str, float]:
    return {
        "mean": float(finite.mean()),
        "std": float(finite.std()),
        "minimum": float(finite.min()),
        "maximum": float(finite.max()),
    }


def _pooled(one: Sketch, two: Sketch) -> dict[str, float]:
    assert one.mean is not None and two.mean is not None and one.std is not None and two.std is not None
    assert one.minimum is not None and two.minimum is not None and one.maximum is not None and two.maximum is not None
    rows = one.present + two.present
    apart = two.mean - one.mean
    squares = one.std**2 * one.present + two.std**2 * two.present + apart**2 * one.present * two.present / rows
    return {
        "mean": one.mean + apart * two.present / rows,
        "std": float(np.sqrt(squares / rows)),
        "minimum": min(one.minimum, two.minimum),
        "maximum": max(one.maximum, two.maximum),
    }


def _fit_categories(values: pl.Series) -> Sketch:
    counted = values.drop_nulls().value_counts(sort=False, name="_rows").rows()
    often = sorted(counted, key=lambda item: (-item[1], item[0]))[:MOST_CATEGORIES]
    names = tuple(sorted(name for name, _ in often))
    bins = len(names) + (len(counted) > len(names))
    return Sketch(kind="category", names=names, counts=np.zeros(bins, np.int64)).add(values)
