"""A rollout that its traffic cannot settle wastes weeks and then gives up; so the time of each stage is told before.

It is reckoned for a challenger that does no harm and is exactly as good as the champion, with the power of the spec.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from scipy.stats import binom, norm

from stackyard.control.stage_checks import CONFIDENCE, LEAST_ROWS, growth
from stackyard.monitoring import sequential
from stackyard.spec.loop import MonitoringSpec, RolloutSpec, StageSpec

DAY = 86_400.0
PAIRED_SPREAD = 0.35
"""Standard deviation of one row's part in a paired difference of the deciding metric: AUCs of one recipe, fitted on
windows that ended two weeks to a month apart, had 0.10 to 0.54 on a year of departures, 0.27 on average."""
SPREAD = 0.6
"""The same for a metric of one arm alone: an AUC of 0.65 has a standard error of about 0.6 / sqrt(rows)."""
FAILING = 0.05
"""Failures that both arms are taken to have, as a share of the margin that is to be excluded."""
_MOST = 10_000_000
"""Requests beyond which a stage counts as without an end."""


@dataclass(frozen=True)
class StageEstimate:
    """How long a stage needs at the expected traffic."""

    step: int
    kind: Literal["shadow", "canary"]
    days: float
    """Until a verdict; infinite where the traffic never gives one."""
    concludes: bool
    """Whether that is before its deadline."""
    reason: str
    """What takes the longest."""

    def plain(self) -> dict[str, Any]:
        """As JSON values: days without an end are None."""
        return asdict(self) | {"days": self.days if math.isfinite(self.days) else None}


def estimate(spec: RolloutSpec, monitoring: MonitoringSpec, requests_per_day: float) -> list[StageEstimate]:
    """The days that each stage needs at `requests_per_day` requests (of one row each), in order."""
    return [_stage(step, stage, spec, monitoring, requests_per_day) for step, stage in enumerate(spec.stages)]


def _stage(
    step: int, stage: StageSpec, spec: RolloutSpec, monitoring: MonitoringSpec, requests: float
) -> StageEstimate:
    mine = requests * stage.share
    needs = {
        f"time is {stage.time / DAY:.3g}d at least": stage.time / DAY,
        f"{stage.requests} requests at {mine:.4g} a day": stage.requests / mine,
    }
    count = _least(lambda n: _excludes(n, spec, spec.guards.errors))
    needs[f"{spec.guards.errors:.1%} more errors are excluded after {count:.0f} requests at {mine:.4g} a day"] = (
        count / mine
    )
    delay = monitoring.label_delay / DAY
    if stage.kind == "shadow":
        rows = max(_paired_rows(stage, spec, monitoring), float(monitoring.rows), float(LEAST_ROWS))
        needs[f"{rows:.0f} labelled rows at {mine:.4g} a day settle the comparison"] = rows / mine + delay
    elif spec.guards.metric is not None:
        rows = _least(lambda n: _settles(n, spec, float(spec.guards.metric or 1)))
        slower = min(mine, requests - mine) if stage.share < 1 else 0.0
        text = f"{rows:.0f} labelled rows of each arm at {slower:.4g} a day settle the metric"
        needs[text] = rows / slower + delay if slower else math.inf
    reason, days = max(needs.items(), key=lambda need: need[1])
    return StageEstimate(step, stage.kind, days, days * DAY <= stage.deadline, reason)


def _excludes(requests: int, spec: RolloutSpec, margin: float) -> bool:
    """Whether harm above `margin` is excluded after so many requests, with the spec's power; the champion is known."""
    rate = margin * FAILING
    failures = int(binom.ppf(spec.power, requests, rate))
    return sequential.upper(failures, requests, spec.alpha * 0.8) - rate * 0.5 < margin


def _settles(rows: int, spec: RolloutSpec, margin: float) -> bool:
    error = SPREAD * math.sqrt(2 / rows)
    return sequential.mean_width(rows, error, spec.alpha) + float(norm.ppf(spec.power)) * error < margin


def _paired_rows(stage: StageSpec, spec: RolloutSpec, monitoring: MonitoringSpec) -> float:
    """Rows after which a challenger as good as the champion is not inferior, with the spec's power."""
    if spec.margin == 0:
        return math.inf
    needed = sequential.boundary(growth(stage, monitoring.label_delay), 1 - CONFIDENCE) + float(norm.ppf(spec.power))
    return (needed * PAIRED_SPREAD / spec.margin) ** 2


def _least(holds: Callable[[int], bool]) -> float:
    """The least number of which `holds` is true, within 1 %; infinite where there is none below `_MOST`."""
    low, high = 1, 1
    while not holds(high):
        low, high = high, high * 2
        if high > _MOST:
            return math.inf
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return float(high)
