"""Everything that is said of a model from its days: quality, drift, predictions, labels, figures and slices.

A pure function of summaries: the same days give the same verdicts, whoever asks and whenever. Days under quarantine
judge nothing. An alarm names its likely cause, so that who is told knows where to look first.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

from stackyard.data.quality import QualityFinding
from stackyard.data.reference import Reference
from stackyard.data.sketches import Sketch
from stackyard.monitoring import scores
from stackyard.monitoring.days import DaySummary, Plain
from stackyard.monitoring.drift import DriftVerdict, Window, judge_drift
from stackyard.monitoring.performance import (
    LabelledDay,
    PerformanceVerdict,
    SliceVerdict,
    judge_performance,
    judge_slices,
    span,
)
from stackyard.spec.loop import MonitoringSpec
from stackyard.spec.metrics import metric, more_is_better
from stackyard.spec.models import TaskSpec

ANSWERS = ("champion", "canary")
"""Arms whose rows are what callers sent and were told; a shadow sees the same rows again."""


@dataclass(frozen=True)
class DayQuality:
    """What was found in one day's batch."""

    day: dt.date
    findings: tuple[QualityFinding, ...]

    def plain(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"day": self.day.isoformat(), "findings": [finding.plain() for finding in self.findings]}


@dataclass(frozen=True)
class Verdicts:
    """Each has a state `ok`, `alarm` or `not_enough_data`, a reason in one sentence, and since when."""

    quality: tuple[DayQuality, ...]
    """Days in which something was found, as the caller gave them."""
    drift: DriftVerdict
    predictions: DriftVerdict
    labels: DriftVerdict
    performance: PerformanceVerdict
    slices: tuple[SliceVerdict, ...]

    def plain(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "quality": [day.plain() for day in self.quality],
            "drift": self.drift.plain(),
            "predictions": self.predictions.plain(),
            "labels": self.labels.plain(),
            "performance": self.performance.plain(),
            "slices": [one.plain() for one in self.slices],
        }

    @property
    def alarms(self) -> tuple[str, ...]:
        """The names of what alarms; slices as `slice COLUMN VALUE`."""
        named = {name: getattr(self, name) for name in ("drift", "predictions", "labels", "performance")}
        found = [name for name, verdict in named.items() if verdict.state == "alarm"]
        return (*found, *(f"slice {one.column} {one.value}" for one in self.slices if one.state == "alarm"))


def judge(
    days: Sequence[DaySummary],
    reference: Mapping[str, Any] | Reference,
    release_figures: Mapping[str, float],
    task: TaskSpec,
    spec: MonitoringSpec,
    now: dt.datetime,
    quarantined: Collection[dt.date] = (),
    *,
    bundle: str | None = None,
    quality: Sequence[DayQuality] = (),
) -> Verdicts:
    """The verdicts at `now` on the days before today, in the bins of `reference`.

    `days` may hold several summaries of a day. Inputs, features and labels are judged on what callers sent (arms
    champion and canary). With `bundle`, predictions and figures are those of its own answers in whatever arm, so that a
    champion's time as a shadow counts; without, those of the champion's arm. Verdicts look back `days_needed`; given
    more, they know longer since when. Raises ValueError for sketches in other bins.
    """
    known = reference if isinstance(reference, Reference) else Reference.load(reference)
    today = now.astimezone(dt.UTC).date()
    sound = [day for day in days if day.day not in quarantined and day.day < today]
    asked = [day for day in sound if day.arm in ANSWERS]
    own = [day for day in sound if (day.bundle == bundle if bundle is not None else day.arm == "champion")]
    labelled = _labelled(own, spec)
    # Labels come later than predictions: a window of figures ends where labels do.
    labels_end = max((day.day for day in labelled if day.scores.rows), default=today) + dt.timedelta(days=1)
    labels_end = min(labels_end, today)
    drift = judge_drift(_windows(asked, today, spec, lambda day: day.features), known.features, spec.drift)
    outputs = {f"output_{place}": sketch for place, sketch in enumerate(known.outputs)}
    predictions = judge_drift(_windows(own, today, spec, _outputs), outputs, spec.drift, "predictions")
    labels = judge_drift(_windows(asked, labels_end, spec, _label), {"label": known.label}, spec.drift, "labels")
    performance = judge_performance(labelled, labels_end, release_figures, task, spec)
    slices = judge_slices(labelled, labels_end, release_figures, task, spec)
    return Verdicts(
        quality=tuple(day for day in quality if day.findings),
        drift=drift,
        predictions=predictions,
        labels=labels,
        performance=_with_cause(performance, drift, slices, task),
        slices=tuple(slices),
    )


def days_needed(spec: MonitoringSpec) -> int:
    """Days before today that the verdicts look at; labels may end `label_delay` earlier."""
    return span(spec).days * spec.drift.windows[1] + math.ceil(spec.label_delay / 86_400)


def _labelled(own: Iterable[DaySummary], spec: MonitoringSpec) -> list[LabelledDay]:
    by_day: dict[dt.date, list[DaySummary]] = {}
    for day in own:
        if day.scores is not None and day.labelled:
            by_day.setdefault(day.day, []).append(day)
    return [_labelled_day(day, found, spec) for day, found in sorted(by_day.items())]


def _labelled_day(day: dt.date, found: Sequence[DaySummary], spec: MonitoringSpec) -> LabelledDay:
    whole = reduce(scores.add, (scores.load(one.scores) for one in found if one.scores is not None))
    slices: dict[str, dict[str, scores.Scores]] = {}
    for column in spec.slices:
        sums = slices.setdefault(column, {})
        for one in found:
            for value, plain in one.slices.get(column, {}).items():
                part = scores.load(plain)
                sums[value] = scores.add(sums[value], part) if value in sums else part
    known = [(one.kpi, one.labelled) for one in found if one.kpi is not None]
    rows = sum(weight for _, weight in known)
    kpi = sum(value * weight for value, weight in known) / rows if rows else None
    return LabelledDay(day, whole, kpi, slices)


def _windows(
    days: Sequence[DaySummary],
    end: dt.date,
    spec: MonitoringSpec,
    sketches: Callable[[DaySummary], Mapping[str, Plain]],
) -> list[Window]:
    """The last n spans before `end`, side by side."""
    found = []
    for place in range(spec.drift.windows[1]):
        last = end - place * span(spec)
        inside = [day for day in days if last - span(spec) <= day.day < last]
        found.append(Window(last - span(spec), last, _sums(sketches(day) for day in inside)))
    return found


def _sums(parts: Iterable[Mapping[str, Plain]]) -> dict[str, Sketch]:
    listed: dict[str, list[Sketch]] = {}
    for part in parts:
        for name, plain in part.items():
            listed.setdefault(name, []).append(Sketch.load(plain))
    return {name: reduce(add, sketches) for name, sketches in listed.items()}


def _outputs(day: DaySummary) -> dict[str, Plain]:
    return {f"output_{place}": plain for place, plain in enumerate(day.outputs)}


def _label(day: DaySummary) -> dict[str, Plain]:
    return {"label": day.label} if day.label is not None else {}


def _with_cause(
    found: PerformanceVerdict, drift: DriftVerdict, slices: Sequence[SliceVerdict], task: TaskSpec
) -> PerformanceVerdict:
    """An alarm, with where to look first: the features that moved most and the slice that is worst."""
    if found.state != "alarm":
        return found
    causes = []
    moved = [feature for feature in drift.features if feature.drifted][:3]
    if moved:
        causes.append("moved most: " + ", ".join(f"{feature.name} ({feature.moved})" for feature in moved))
    name = metric(task)
    ranked = [
        (value if more_is_better(name) else -value, one)
        for one in slices
        if one.state != "not_enough_data" and (value := one.figures.get(name, {}).get("value")) is not None
    ]
    if ranked:
        worst = min(ranked, key=lambda pair: pair[0])[1]
        causes.append(f"worst slice: {worst.column} {worst.value} ({name} {worst.figures[name]['value']:.4g})")
    return replace(found, reason="; ".join([found.reason, *causes])) if causes else found
