"""Whether distributions have moved enough to matter, for long enough to be believed.

On many rows every difference is significant, on few every index is large, and of 200 features some always look odd. So
the least effect that sampling allows must exceed the threshold, the tests must survive a control of false discoveries
over features, and k of the last n windows must say so.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from stackyard.data.sketches import Sketch
from stackyard.monitoring import distances
from stackyard.monitoring.distances import Distance, PValue
from stackyard.spec.loop import DriftSpec

State = Literal["ok", "alarm", "not_enough_data"]

NAMED = 3
"""Features that a sentence names."""


@dataclass(frozen=True)
class Window:
    """Sketches over some days, in the reference's bins."""

    start: dt.date
    end: dt.date
    """The day after its last."""
    sketches: Mapping[str, Sketch]


@dataclass(frozen=True)
class FeatureDrift:
    """One distribution in one window against the reference."""

    name: str
    rows: int
    effect: float
    """The spec's metric, less what sampling alone brings."""
    low: float
    """What it is at least, one-sided at 90 %."""
    ks: float
    p: float
    """Of the chi-square test, adjusted for false discoveries over features."""
    drifted: bool
    moved: str
    """The bin whose share changed most, with both shares."""


@dataclass(frozen=True)
class DriftVerdict:
    """What is said of a group of distributions: features, predictions or labels."""

    state: State
    reason: str
    since: dt.date | None
    """The first day of the oldest window of those that raised the alarm."""
    alarmed: tuple[str, ...]
    """Names, the farthest first."""
    features: tuple[FeatureDrift, ...]
    """The newest judged window, the farthest first."""
    windows: tuple[tuple[dt.date, int], ...]
    """First day and rows of each window looked at, the oldest first."""

    def plain(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "state": self.state,
            "reason": self.reason,
            "since": self.since.isoformat() if self.since else None,
            "alarmed": list(self.alarmed),
            "features": [asdict(feature) for feature in self.features],
            "windows": [[start.isoformat(), rows] for start, rows in self.windows],
        }


def judge_drift(
    windows: Sequence[Window], reference: Mapping[str, Sketch], spec: DriftSpec, what: str = "features"
) -> DriftVerdict:
    """The verdict on the distributions of `reference`, but those the spec ignores, over disjoint windows.

    Only the newest n windows count (`spec.windows` is k of n), and of them those with `spec.rows` rows. Raises
    ValueError for sketches of other bins.
    """
    least, looked_at = spec.windows
    newest = sorted(windows, key=lambda window: window.start)[-looked_at:]
    names = [name for name in reference if name not in spec.ignore]
    judged = [(window, judge_window(window, {name: reference[name] for name in names}, spec)) for window in newest]
    judged = [(window, found) for window, found in judged if found]
    sizes = tuple((window.start, _rows(window)) for window in newest)
    if len(judged) < least:
        reason = (
            f"{what}: {len(judged)} of the last {looked_at} windows have {spec.rows} rows, {least} are needed"
            if names
            else f"{what}: there is nothing to compare"
        )
        last = judged[-1][1] if judged else ()
        return DriftVerdict("not_enough_data", reason, None, (), last, sizes)
    latest = judged[-1][1]
    times = {name: sum(name in _drifted(found) for _, found in judged) for name in names}
    alarmed = tuple(feature.name for feature in latest if times[feature.name] >= least)
    alarmed += tuple(name for name in names if times[name] >= least and name not in alarmed)
    if not alarmed:
        return DriftVerdict("ok", _calm(what, latest, spec), None, (), latest, sizes)
    since = min(window.start for window, found in judged if _drifted(found) & set(alarmed))
    return DriftVerdict("alarm", _told(what, alarmed, judged, times, since, spec), since, alarmed, latest, sizes)


def judge_window(window: Window, reference: Mapping[str, Sketch], spec: DriftSpec) -> tuple[FeatureDrift, ...]:
    """Each distribution of one window, the farthest first; those with fewer than `spec.rows` rows are left out."""
    pairs: list[tuple[str, Sketch, Sketch]] = []
    for name, known in reference.items():
        live = window.sketches.get(name)
        if live is None or live.total < spec.rows or not known.total:
            continue
        if not live.fits(known):
            raise ValueError(f"{name} is summed up in other bins than the reference's")
        pairs.append((name, live, known))
    tests = [float(distances.chi_square(live.table, known.table)[1]) for _, live, known in pairs]
    found = [
        _compare(name, live, known, PValue(float(p)), spec)
        for (name, live, known), p in zip(pairs, distances.false_discoveries(np.array(tests)), strict=True)
    ]
    return tuple(sorted(found, key=lambda feature: (-feature.low, -feature.effect, feature.name)))


def _compare(name: str, live: Sketch, known: Sketch, p: PValue, spec: DriftSpec) -> FeatureDrift:
    size = distances.effect(spec.metric, live.table, known.table)
    low = Distance(float(size.low))
    ordered = known.kind == "number"
    ks = float(distances.ks(live.counts, known.counts)) if ordered and live.present and known.present else 0.0
    here, there = (sketch.table / sketch.total for sketch in (live, known))
    most = int(np.abs(here - there).argmax())
    return FeatureDrift(
        name=name,
        rows=live.total,
        effect=float(size.value),
        low=low.value,
        ks=ks,
        p=p.value,
        drifted=low.exceeds(spec.threshold) and p.rejects(spec.alpha),
        moved=f"{known.labels[most]} from {there[most]:.0%} to {here[most]:.0%}",
    )


def _drifted(found: Sequence[FeatureDrift]) -> set[str]:
    return {feature.name for feature in found if feature.drifted}


def _rows(window: Window) -> int:
    return max((sketch.total for sketch in window.sketches.values()), default=0)


def _calm(what: str, latest: Sequence[FeatureDrift], spec: DriftSpec) -> str:
    if not latest:
        return f"{what}: there is nothing to compare"
    farthest = latest[0]
    effect = f"{spec.metric} {farthest.effect:.2f}, at least {farthest.low:.2f}"
    return f"{what}: the farthest is {farthest.name} ({effect}; {spec.threshold:g} is allowed)"


def _told(
    what: str,
    alarmed: Sequence[str],
    judged: Sequence[tuple[Window, tuple[FeatureDrift, ...]]],
    times: Mapping[str, int],
    since: dt.date,
    spec: DriftSpec,
) -> str:
    newest = {feature.name: feature for _, found in judged for feature in found}  # later windows overwrite
    facts = [(name, newest[name], f"{times[name]} of {len(judged)} windows") for name in alarmed[:NAMED]]
    shown = [f"{name} ({spec.metric} {one.effect:.2f}: {one.moved}; {often})" for name, one, often in facts]
    rest = f" and {len(alarmed) - NAMED} more" if len(alarmed) > NAMED else ""
    return f"{what} drift since {since}: {', '.join(shown)}{rest}"
