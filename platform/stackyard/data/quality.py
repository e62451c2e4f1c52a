"""Whether a day's batch can be believed: one that cannot neither trains nor judges a model until a person releases it.

Real days differ widely: a storm trebles cancellations, spring warms by forty degrees, calm days have no gusts at all.
So a day is compared with the days before as well as with training, and labels are doubted where they stop following
the champion, not because they are many.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stackyard.data.day_facts import ColumnFacts, DayFacts, facts
from stackyard.data.reference import Reference
from stackyard.data.sketches import Sketch
from stackyard.spec.loop import QualitySpec
from stackyard.spec.models import TaskSpec

__all__ = ["ColumnFacts", "DayFacts", "QualityFinding", "facts", "judge_day", "judge_freshness"]

DAYS = 28
"""Days before that a day is compared with."""
FEWEST_DAYS = 7
"""Below so many days of history, only the reference counts."""
FEWEST_VALUES = 100
"""Below so many values or labels, a share of them is not judged."""
AGAINST = -4.0
"""Labels this many standard errors against the champion's order are wrong, whatever their share: 1 in 30,000 by chance;
the 306 real days that tests live through lie above -1.5."""
TWICE = 2.0
"""Labels that follow the champion's order, however little, may lie so many times `surprise` away: on the real
days that tests live through, labels 0.25 away follow by four standard errors and more, and none lies over 0.42 away."""


@dataclass(frozen=True)
class QualityFinding:
    """One reason not to believe a day."""

    code: str
    """The rule: schema, missing, outliers, unseen, duplicates, volume, labels, surprise, stuck, shift, freshness."""
    column: str | None
    value: float
    limit: float
    reason: str
    """One sentence for the owner of the data."""

    def plain(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def judge_day(
    day: DayFacts,
    reference: Reference | Mapping[str, Any],
    history: Sequence[DayFacts],
    spec: QualitySpec,
    task: TaskSpec,
    previous: tuple[DayFacts, Sequence[QualityFinding]] | None = None,
) -> list[QualityFinding]:
    """Why `day` must not be believed; nothing where it may be.

    `history` are the sound days before, quarantined ones left out; only the newest 28 before `day` count, and days of
    the training snapshot may be among them. `previous` is the day before with what was found in it, unless a person
    released it: a column that had shifted then has shifted still while it lies nearer to that day than to the sound
    ones. Before labels have come, the rules about labels say nothing.
    """
    known = reference if isinstance(reference, Reference) else Reference.load(reference)
    past = sorted((one for one in history if one.day < day.day), key=lambda one: one.day)[-DAYS:]
    found = [*_schema(day), *_rows(day, past, spec), *_label_noise(day, spec), *_surprise(day, known, spec, task)]
    for name, column in day.columns.items():
        before = [one.columns[name] for one in past if name in one.columns]
        sketch = known.inputs.get(name)
        found += [*_values(name, column, before, sketch, spec), *_stuck(name, column, before, sketch, spec)]
        found += _shift(name, column, before, sketch, spec, _shifted(previous, name))
    return found


def judge_freshness(
    newest: dt.date | None, today: dt.date, label_delay: float, spec: QualitySpec
) -> QualityFinding | None:
    """Whether labels have stopped coming: `newest` is the newest labelled day, `label_delay` in seconds.

    It speaks of no single day and quarantines none; None while labels are young enough, or none ever came.
    """
    if newest is None:
        return None
    age, limit = (today - newest).days - 1, (label_delay + spec.freshness) / 86_400
    if age <= limit:
        return None
    reason = f"the newest labelled day is {newest}, {age} whole days ago; labels are expected within {limit:g}"
    return QualityFinding("freshness", None, float(age), limit, reason)


def _schema(day: DayFacts) -> Iterator[QualityFinding]:
    for name in day.lost:
        yield QualityFinding("schema", name, 1.0, 0.0, f"{name} is not in the batch")
    for name, dtype in day.wrong_types.items():
        yield QualityFinding("schema", name, 1.0, 0.0, f"{name} has the type {dtype}, which is not the spec's")


def _rows(day: DayFacts, past: Sequence[DayFacts], spec: QualitySpec) -> Iterator[QualityFinding]:
    repeated = day.duplicates / max(day.rows, 1)
    if repeated > spec.duplicates:
        reason = f"{day.duplicates} of {day.rows} rows repeat another one in every input"
        yield QualityFinding("duplicates", None, repeated, spec.duplicates, reason)
    usual = float(np.median([one.rows for one in past])) if len(past) >= FEWEST_DAYS else 0.0
    if day.rows < spec.volume * usual:
        reason = f"{day.rows} rows, where a day of the {len(past)} before has {usual:g}"
        yield QualityFinding("volume", None, day.rows / usual, spec.volume, reason)


def _label_noise(day: DayFacts, spec: QualitySpec) -> Iterator[QualityFinding]:
    wrong = day.label_conflicts + day.wrong_labels
    every = day.labelled + day.wrong_labels
    if every and wrong / every > spec.labels:
        reason = f"of {every} labels {day.wrong_labels} are none of the task's, {day.label_conflicts} contradict others"
        yield QualityFinding("labels", None, wrong / every, spec.labels, reason)


def _surprise(day: DayFacts, known: Reference, spec: QualitySpec, task: TaskSpec) -> Iterator[QualityFinding]:
    if day.labelled < FEWEST_VALUES or day.label is None or day.expected is None:
        return
    apart = np.abs(np.atleast_1d(day.label) - np.atleast_1d(day.expected))
    scale = (known.label.std or 1.0) if task.type == "regression" else 1.0
    far = float(apart.max()) / scale
    follows = day.agreement is not None and day.agreement > 0  # none: every label or every answer is the same
    limit = spec.surprise * (TWICE if follows else 1)
    if day.agreement is not None and day.agreement < AGAINST:
        reason = (
            f"labels run against the champion's order by {-day.agreement:.1f} standard errors: are they turned round?"
        )
        yield QualityFinding("surprise", task.label, day.agreement, AGAINST, reason)
    elif far > limit:
        place = int(apart.argmax())
        shown = (task.classes or ())[place] if task.type == "multiclass" else "the mean"
        found, due = (float(np.atleast_1d(side)[place]) for side in (day.label, day.expected))
        manner = "though they follow" if follows else "and do not follow"
        reason = f"labels: {shown} is {found:.3g} where the champion expects {due:.3g}, {manner} its order"
        yield QualityFinding("surprise", task.label, far, limit, reason)


def _values(
    name: str, column: ColumnFacts, past: Sequence[ColumnFacts], known: Sketch | None, spec: QualitySpec
) -> Iterator[QualityFinding]:
    trained = known.missing / known.total if known is not None and known.total else 0.0
    usual = max([trained, *(one.missing for one in past)]) if len(past) >= FEWEST_DAYS else trained
    if column.missing - usual > spec.missing:
        reason = f"{name} is missing in {column.missing:.0%} of the rows, {usual:.0%} at most before"
        yield QualityFinding("missing", name, column.missing - usual, spec.missing, reason)
    if column.beyond > spec.outliers:
        reason = f"{name} lies beyond its range in {column.beyond:.0%} of the rows"
        yield QualityFinding("outliers", name, column.beyond, spec.outliers, reason)
    other = 0.0
    if known is not None and known.kind == "category" and len(known.counts) > len(known.names):
        other = int(known.counts[-1]) / max(known.total, 1)
    if column.unseen - other > spec.unseen:
        reason = f"{name} has a value that training never saw in {column.unseen:.0%} of the rows"
        yield QualityFinding("unseen", name, column.unseen - other, spec.unseen, reason)


def _stuck(
    name: str, column: ColumnFacts, past: Sequence[ColumnFacts], known: Sketch | None, spec: QualitySpec
) -> Iterator[QualityFinding]:
    if column.present < FEWEST_VALUES or column.common is None:
        return
    seen = [one.common or 0.0 for one in past if one.present >= FEWEST_VALUES]
    usual = known.common or 0.0 if known is not None else 0.0
    usual = max(usual, *seen) if len(seen) >= FEWEST_DAYS else usual
    if column.common - usual > spec.stuck:
        reason = f"{name} has one value in {column.common:.0%} of the rows, in {usual:.0%} at most before: is it stuck?"
        yield QualityFinding("stuck", name, column.common - usual, spec.stuck, reason)


def _shift(
    name: str,
    column: ColumnFacts,
    past: Sequence[ColumnFacts],
    known: Sketch | None,
    spec: QualitySpec,
    shifted: float | None,
) -> Iterator[QualityFinding]:
    """The middle of the day is far from that of the days before; four fifths of it lie beyond four fifths of each."""
    seen = [one for one in past if one.present >= FEWEST_VALUES]
    if column.present < FEWEST_VALUES or len(seen) < FEWEST_DAYS or known is None or not known.std:
        return
    low, median, high = (float(end or 0.0) for end in (column.low, column.median, column.high))
    least, most = min(one.low or 0.0 for one in seen), max(one.high or 0.0 for one in seen)
    middle = float(np.median([one.median or 0.0 for one in seen]))
    away = abs(median - middle) / known.std
    begun = away > spec.shift and (high < least or low > most)
    lasts = shifted is not None and abs(median - shifted) < abs(median - middle)
    if begun or lasts:
        limit = spec.shift if begun else abs(shifted - median) / known.std if shifted is not None else 0.0
        reason = (
            f"{name} lies between {low:.4g} and {high:.4g}, on {len(seen)} sound days before between {least:.4g} and "
            f"{most:.4g}: has its unit changed?"
        )
        yield QualityFinding("shift", name, away, limit, reason)


def _shifted(previous: tuple[DayFacts, Sequence[QualityFinding]] | None, name: str) -> float | None:
    """The median of a column that had shifted the day before."""
    if previous is None or not any(one.code == "shift" and one.column == name for one in previous[1]):
        return None
    return previous[0].columns[name].median
