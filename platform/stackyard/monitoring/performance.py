"""Whether the model is still as good as it must be, on the labels that have come, as surely as they can tell.

A figure alarms when even the better end of its interval breaks a floor, or lies below the release's by more than the
drop allowed. Few labels are "not enough data", never a bad figure; a small slice is reported, never judged.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from scipy import stats

from stackyard.monitoring import scores
from stackyard.monitoring.intervals import Interval
from stackyard.monitoring.scores import Scores
from stackyard.spec.loop import MonitoringSpec
from stackyard.spec.metrics import metric, more_is_better
from stackyard.spec.models import TaskSpec

State = Literal["ok", "alarm", "not_enough_data"]

CONFIDENCE = 0.95
"""Two-sided, of every interval; of slices shared out over those judged (Bonferroni)."""


@dataclass(frozen=True)
class Judged:
    """One figure against one limit."""

    name: str
    """The metric, or `kpi`."""
    rule: Literal["floor", "drop"]
    value: float
    low: float | None
    high: float | None
    limit: float
    broken: bool
    reason: str


@dataclass(frozen=True)
class PerformanceVerdict:
    """What is said of the window's labelled rows."""

    state: State
    reason: str
    since: dt.date | None
    """First day of the oldest window in a row, up to the newest, that alarms."""
    rows: int
    figures: dict[str, dict[str, float | None]]
    """Metric to value, low and high."""
    judged: tuple[Judged, ...]
    window: tuple[dt.date, dt.date] | None
    """First day, and the day after the last."""

    def plain(self) -> dict[str, Any]:
        """JSON-ready."""
        found = asdict(self) | {"judged": [asdict(one) for one in self.judged]}
        found["since"] = self.since.isoformat() if self.since else None
        found["window"] = [day.isoformat() for day in self.window] if self.window else None
        return found


@dataclass(frozen=True)
class SliceVerdict:
    """What is said of the rows with one value of a column."""

    column: str
    value: str
    state: State
    """`not_enough_data`: reported only."""
    reason: str
    rows: int
    figures: dict[str, dict[str, float | None]]

    def plain(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


@dataclass(frozen=True)
class LabelledDay:
    """The scores of one day, and what the project's own function made of it."""

    day: dt.date
    scores: Scores
    kpi: float | None = None
    slices: Mapping[str, Mapping[str, Scores]] = field(default_factory=dict)


def judge_performance(
    days: Sequence[LabelledDay], end: dt.date, release: Mapping[str, float], task: TaskSpec, spec: MonitoringSpec
) -> PerformanceVerdict:
    """The verdict on the window of `spec.window` that ends before `end`; earlier days tell since when it alarms.

    `release` are the figures the champion was released with.
    """
    found = _window(days, end, release, task, spec)
    if found.state != "alarm":
        return found
    since, before = found.window, end
    first = min(day.day for day in days)
    while before > first:
        before -= dt.timedelta(days=1)
        earlier = _window(days, before, release, task, spec)
        if earlier.state != "alarm":
            break
        since = earlier.window
    return replace(found, since=max(first, since[0]) if since else None)


def judge_slices(
    days: Sequence[LabelledDay], end: dt.date, release: Mapping[str, float], task: TaskSpec, spec: MonitoringSpec
) -> list[SliceVerdict]:
    """The verdict on each slice of the window, by column and value.

    A slice is held to the floors, and to the release's figure of the deciding metric less twice the drop: slices differ
    from the whole from the first day, and a bad one is told without being confused with a hard one.
    """
    inside = [day for day in days if end - span(spec) <= day.day < end]
    sums: dict[tuple[str, str], Scores] = {}
    for day in inside:
        for column in spec.slices:
            for value, found in day.slices.get(column, {}).items():
                key = (column, value)
                sums[key] = scores.add(sums[key], found) if key in sums else found
    many = sum(found.rows >= spec.slice_rows for found in sums.values())
    confidence = 1 - (1 - CONFIDENCE) / max(many, 1)
    return [
        _slice(column, value, sums[column, value], release, task, spec, confidence)
        for column, value in sorted(sums, key=lambda key: (spec.slices.index(key[0]), key[1]))
    ]


def span(spec: MonitoringSpec) -> dt.timedelta:
    """The window, in whole days; at least one."""
    return dt.timedelta(days=max(1, round(spec.window / 86_400)))


def _window(
    days: Sequence[LabelledDay], end: dt.date, release: Mapping[str, float], task: TaskSpec, spec: MonitoringSpec
) -> PerformanceVerdict:
    window = (end - span(spec), end)
    inside = [day for day in days if window[0] <= day.day < end]
    whole = scores.empty(task)
    for day in inside:
        whole = scores.add(whole, day.scores)
    figures = _figures(whole, CONFIDENCE)
    if (kpi := _kpi(inside)) is not None:
        figures["kpi"] = kpi
    if whole.rows < spec.rows:
        reason = f"{whole.rows} labelled rows from {window[0]} on, {spec.rows} are needed"
        return PerformanceVerdict("not_enough_data", reason, None, whole.rows, figures, (), window)
    judged = tuple(_judge(figures, release, metric(task), spec))
    broken = [one for one in judged if one.broken]
    if broken:
        reason = "; ".join(one.reason for one in broken)
        return PerformanceVerdict("alarm", reason, None, whole.rows, figures, judged, window)
    reason = "; ".join(one.reason for one in judged) or f"{_shown(figures, metric(task))}, held to no limit"
    return PerformanceVerdict("ok", reason, None, whole.rows, figures, judged, window)


def _slice(
    column: str,
    value: str,
    found: Scores,
    release: Mapping[str, float],
    task: TaskSpec,
    spec: MonitoringSpec,
    confidence: float,
) -> SliceVerdict:
    figures, name = _figures(found, confidence), f"{column} {value}"
    if found.rows < spec.slice_rows:
        reason = f"{name}: {found.rows} labelled rows, reported and not judged under {spec.slice_rows}"
        return SliceVerdict(column, value, "not_enough_data", reason, found.rows, figures)
    judged = list(_judge(figures, release, metric(task), spec, drops=2))
    broken = [one for one in judged if one.broken]
    reason = "; ".join(one.reason for one in broken or judged) or _shown(figures, metric(task))
    return SliceVerdict(column, value, "alarm" if broken else "ok", f"{name}: {reason}", found.rows, figures)


def _judge(
    figures: Mapping[str, Mapping[str, float | None]],
    release: Mapping[str, float],
    deciding: str,
    spec: MonitoringSpec,
    drops: float = 1,
) -> list[Judged]:
    found = []
    for name, floor in spec.floors.items():
        if name in figures:
            kind = "floor" if _rises(name) else "ceiling"
            found.append(_held(name, "floor", figures[name], float(floor), f"the {kind} of {float(floor):.4g}"))
    if deciding in release and deciding in figures:
        allowed = spec.drop * drops
        limit = release[deciding] - allowed if _rises(deciding) else release[deciding] + allowed
        words = f"{limit:.4g}, the release's {release[deciding]:.4g} and {allowed:g} allowed"
        found.append(_held(deciding, "drop", figures[deciding], limit, words))
    return found


def _held(
    name: str, rule: Literal["floor", "drop"], figure: Mapping[str, float | None], limit: float, words: str
) -> Judged:
    value, low, high = figure["value"], figure["low"], figure["high"]
    assert value is not None
    better = (high if _rises(name) else low) if low is not None and high is not None else value
    assert better is not None
    broken = better < limit if _rises(name) else better > limit
    between = f" ({low:.4g} to {high:.4g})" if low is not None and high is not None else ""
    verb = "breaks" if broken else "keeps"
    return Judged(name, rule, value, low, high, limit, broken, f"{name} {value:.4g}{between} {verb} {words}")


def _figures(found: Scores, confidence: float) -> dict[str, dict[str, float | None]]:
    figures: dict[str, dict[str, float | None]] = {}
    for name, value in sorted(found.metrics().items()):
        ends: Interval | None = None if name == "rows" else found.interval(name, confidence)
        figures[name] = {"value": value, "low": ends[0] if ends else None, "high": ends[1] if ends else None}
    return figures


def _kpi(days: Sequence[LabelledDay]) -> dict[str, float | None] | None:
    """The mean over days, with the interval of Student's t from how the days differ."""
    known = [day.kpi for day in days if day.kpi is not None]
    if not known:
        return None
    mean = sum(known) / len(known)
    if len(known) < 2:
        return {"value": mean, "low": None, "high": None}
    spread = math.sqrt(sum((one - mean) ** 2 for one in known) / (len(known) - 1) / len(known))
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(known) - 1)) * spread
    return {"value": mean, "low": mean - half, "high": mean + half}


def _rises(name: str) -> bool:
    return more_is_better(name) and name not in ("brier", "calibration_error")


def _shown(figures: Mapping[str, Mapping[str, float | None]], name: str) -> str:
    value = figures[name]["value"] if name in figures else None
    return f"{name} {value:.4g}" if value is not None else f"no {name} on these rows"
