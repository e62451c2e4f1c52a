"""One day of one arm's answers in a few kilobytes: what every verdict is made from.

Summaries of disjoint rows add, so a day may be summed up in parts and a window is the sum of its days. Sketches are in
the bins of one reference; days that are judged against another champion's reference are summed up again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from stackyard.data.reference import Reference
from stackyard.data.sketches import Sketch, add_frame
from stackyard.monitoring import scores
from stackyard.spec.models import TaskSpec

Plain = dict[str, Any]
"""A sketch or scores, as their `plain()` wrote them."""

_COUNTS = ("rows", "requests", "labelled", "duplicates", "label_conflicts", "unknown_labels", "wrong_labels")


class DaySummary(BaseModel):
    """The rows of one day that one bundle answered as one arm; JSON both ways by pydantic."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    day: dt.date
    """UTC; the first day of a sum."""
    bundle: str
    """Its digest; empty for a sum over several."""
    arm: str
    """`champion`, `shadow` or `canary`; empty for a sum over several."""
    rows: int = 0
    requests: int = 0
    labelled: int = 0
    """Rows whose truth has come and is of the task's type."""
    inputs: dict[str, Plain] = {}
    """Sketch of each input column but times."""
    features: dict[str, Plain] = {}
    outputs: list[Plain] = []
    label: Plain | None = None
    """Sketch of the labels of labelled rows."""
    scores: Plain | None = None
    slices: dict[str, dict[str, Plain]] = {}
    """Scores by column and value."""
    expected: float | list[float] | None = None
    """Mean output over the labelled rows: what the labels should be on average. One for each class of multiclass."""
    duplicates: int = 0
    """Rows that repeat another row of the day in every input."""
    label_conflicts: int = 0
    """Rows whose labels contradict one another."""
    unknown_labels: int = 0
    """Labels for requests that nobody made."""
    wrong_labels: int = 0
    """Labels that no row of the task can have."""
    outcomes: dict[str, int] = {}
    """Rows by what became of them: `ok`, `error`, `timeout`, ..."""
    kpi: float | None = None
    """What the project's function says of the labelled rows; the mean over labelled rows in a sum."""
    newest_label: str | None = None
    """When the newest label came, ISO 8601."""

    def __add__(self, other: DaySummary) -> DaySummary:
        """The rows of both. Raises ValueError for another model or task, or other bins."""
        if self.model != other.model:
            raise ValueError(f"days of {self.model} and {other.model} do not add up")
        weights = (self.labelled, other.labelled)
        return DaySummary(
            model=self.model,
            day=min(self.day, other.day),
            bundle=self.bundle if self.bundle == other.bundle else "",
            arm=self.arm if self.arm == other.arm else "",
            **{name: getattr(self, name) + getattr(other, name) for name in _COUNTS},
            inputs=_by_name(self.inputs, other.inputs, _sketches),
            features=_by_name(self.features, other.features, _sketches),
            outputs=[_sketches(*pair) for pair in _pairs(self.outputs, other.outputs)],
            label=_either(self.label, other.label, _sketches),
            scores=_either(self.scores, other.scores, _scores),
            slices=_by_name(self.slices, other.slices, lambda one, two: _by_name(one, two, _scores)),
            expected=_weighted(self.expected, other.expected, weights),
            outcomes=_by_name(self.outcomes, other.outcomes, lambda one, two: one + two),
            kpi=_weighted(self.kpi, other.kpi, weights),
            newest_label=max(filter(None, (self.newest_label, other.newest_label)), default=None),
        )


def summarize(
    reference: Reference,
    task: TaskSpec,
    frame: pl.DataFrame,
    features: pl.DataFrame | None,
    slices: Sequence[str] = (),
    **known: Any,
) -> DaySummary:
    """The summary of rows that were answered.

    `frame` holds the inputs, `outputs` (list of float64, none empty) and `label` (float64, null where the truth has not
    come or cannot be); `features` its features in the same order, where they were made. `known` are the fields of
    DaySummary that rows do not tell (model, day, bundle, arm, counts of duplicates and of labels, kpi, ...).
    """
    width = len(reference.outputs)
    outputs = np.asarray(frame["outputs"].to_list(), np.float64).reshape(frame.height, width)
    labels = frame["label"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    there = ~np.isnan(labels)
    truth, answers = labels[there], outputs[there]
    answers = answers if width > 1 else answers[:, 0]
    labelled = frame.filter(there)
    found: dict[str, Any] = {
        "rows": frame.height,
        "labelled": len(truth),
        "inputs": _plain(add_frame(reference.inputs, frame)),
        "features": _plain(add_frame(reference.features, features)) if features is not None else {},
        "outputs": [sketch.plain() for sketch in reference.sketch_outputs(outputs)],
        "label": reference.sketch_labels(truth).plain(),
        "scores": scores.score(task, truth, answers).plain(),
        "slices": {name: scores.by_value(task, truth, answers, labelled[name]) for name in slices},
        "expected": _mean(answers),
    }
    return DaySummary(**(found | known))


def total(days: Iterable[DaySummary]) -> DaySummary | None:
    """The sum of `days`; None for none. Raises ValueError where they do not add up."""
    found = list(days)
    return reduce(lambda one, two: one + two, found) if found else None


def _plain(sketches: Mapping[str, Sketch]) -> dict[str, Plain]:
    return {name: sketch.plain() for name, sketch in sketches.items()}


def _mean(answers: np.ndarray) -> float | list[float] | None:
    return answers.mean(axis=0).tolist() if len(answers) else None


def _sketches(one: Plain, two: Plain) -> Plain:
    return (Sketch.load(one) + Sketch.load(two)).plain()


def _scores(one: Plain, two: Plain) -> Plain:
    return scores.add(scores.load(one), scores.load(two)).plain()


def _by_name(one: Mapping[str, Any], two: Mapping[str, Any], add: Any) -> dict[str, Any]:
    names = [*one, *(name for name in two if name not in one)]
    return {name: _either(one.get(name), two.get(name), add) for name in names}


def _either(one: Any, two: Any, add: Any) -> Any:
    return add(one, two) if one is not None and two is not None else (two if one is None else one)


def _pairs(one: list[Plain], two: list[Plain]) -> list[tuple[Plain, Plain]]:
    if one and two and len(one) != len(two):
        raise ValueError("answers of different width do not add up")
    filled = one or two
    empty = [Sketch.load(plain).empty().plain() for plain in filled]
    return list(zip(one or empty, two or empty, strict=True))


def _weighted(one: Any, two: Any, weights: tuple[int, int]) -> Any:
    """The mean of two means; of lists, place by place. What has no rows or no value does not count."""
    if one is None or two is None or 0 in weights:
        first = two is None or (one is not None and weights[1] == 0)
        return one if first else two
    if isinstance(one, list):
        return [_weighted(*pair, weights) for pair in zip(one, two, strict=True)]
    return (one * weights[0] + two * weights[1]) / sum(weights)
