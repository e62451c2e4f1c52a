"""Whether a challenger goes on, waits, or is taken away: one stage of a rollout judged from the evidence so far.

A shadow is judged on quality: the same requests answered by both, once their labels are there. A canary excludes harm:
it passes when no guard is rejected and harm above the margin is excluded. Every test holds at every look, so asking
more often changes nothing. `alpha` is shared evenly by the stages, and within a stage by its tests.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from stackyard.control import differences, stage_checks
from stackyard.control.checks import Check
from stackyard.control.stage_facts import ArmFacts, Paired, StageEvidence, StageSeen
from stackyard.monitoring import sequential
from stackyard.spec.loop import MonitoringSpec, RolloutSpec, StageSpec
from stackyard.spec.metrics import metric
from stackyard.spec.models import TaskSpec

__all__ = ["ArmFacts", "Paired", "StageEvidence", "StageSeen", "StageVerdict", "decide", "watch"]


@dataclass(frozen=True)
class StageVerdict:
    """What becomes of the stage, and why."""

    action: Literal["advance", "hold", "stop", "expire"]
    reason: str
    checks: list[Check]
    until: dt.datetime | None
    """When time alone may change the verdict."""

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        until = self.until.isoformat() if self.until else None
        return {
            "action": self.action,
            "reason": self.reason,
            "checks": [asdict(c) for c in self.checks],
            "until": until,
        }


def decide(
    spec: RolloutSpec,
    task: TaskSpec,
    stage: StageSeen,
    evidence: StageEvidence,
    now: dt.datetime,
    monitoring: MonitoringSpec | None = None,
    rng: np.random.Generator | None = None,
) -> StageVerdict:
    """The verdict on a stage. `rng` draws the resamples of metrics without a closed form (absent: seed 0)."""
    asked = spec.stages[stage.step]
    ready, end = stage.started + dt.timedelta(seconds=asked.time), stage.started + dt.timedelta(seconds=asked.deadline)
    seen = stage_checks.Judging(
        spec, asked, task, stage, evidence, monitoring or MonitoringSpec(), rng or np.random.default_rng(0)
    )
    shown = stage_checks.reported(seen)
    needed = [_time(asked, stage, evidence, now)]
    checks = list(needed)
    for check in stage_checks.of(seen):
        decides = check.name not in shown
        needed += [check] if decides else []
        checks.append(check if decides else replace(check, passed=None))
    if failed := [check.reason for check in needed if check.passed is False]:
        return StageVerdict("stop", "; ".join(failed), checks, None)
    missing = [check for check in needed if check.passed is None]
    if not missing:
        return StageVerdict("advance", _passed(asked, checks), checks, None)
    reasons = "; ".join(check.reason for check in missing)
    if now >= end:
        return StageVerdict("expire", f"no verdict within the deadline: {reasons}", checks, None)
    return StageVerdict("hold", reasons, checks, ready if now < ready else end)


def watch(
    spec: RolloutSpec,
    task: TaskSpec,
    started: dt.datetime,
    evidence: StageEvidence,
    now: dt.datetime,
    monitoring: MonitoringSpec | None = None,
    rng: np.random.Generator | None = None,
) -> StageVerdict:
    """The verdict on a promotion: `stop` when the former champion, a shadow now, proves better at any look.

    `advance` when `spec.watch` is over; until then `hold`.
    """
    end = started + dt.timedelta(seconds=spec.watch or 0.0)
    name, paired = metric(task), evidence.paired
    rows = 0 if paired is None else len(paired.labels)
    checks: list[Check] = []
    if paired is not None and rows >= (monitoring or MonitoringSpec()).rows:
        found = differences.paired(
            task, paired.labels, paired.champion, paired.challenger, rng or np.random.default_rng(0)
        )
        lowest = found.value - sequential.mean_width(rows, found.error, spec.alpha) if found.known else float("nan")
        told = f"the former champion's {name} is better by {found.value:+.4f} on {rows} labelled rows"
        told += f", at least {lowest:+.4f}"
        checks.append(Check("watch", not lowest > 0, lowest if found.known else None, 0.0, told))
        if lowest > 0:
            return StageVerdict("stop", told, checks, None)
    reason = checks[0].reason if checks else f"{rows} rows are labelled"
    return StageVerdict("advance" if now >= end else "hold", reason, checks, None if now >= end else end)


def _time(asked: StageSpec, stage: StageSeen, evidence: StageEvidence, now: dt.datetime) -> Check:
    """The least time, as far as the log is read."""
    lasted = (min(now, evidence.complete_until) - stage.started).total_seconds()
    told = f"it lasts {_span(max(lasted, 0.0))} so far, {_span(asked.time)} is asked for"
    return Check("time", True if lasted >= asked.time else None, lasted, asked.time, told)


def _passed(asked: StageSpec, checks: list[Check]) -> str:
    wanted = ("metric",) if asked.kind == "shadow" else ("errors excluded",)
    told = [check.reason for check in checks if check.name in wanted]
    return f"{asked.kind} passed: " + "; ".join(told)


def _span(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g}{unit}"
    return f"{seconds:.3g}s"
