"""Whether a candidate has proven itself against the champion, on rows that neither of them learnt from.

Every figure is kept and shown, whether it passed or not; a check that failed says what was missing. The trial, fitted
without the rows held out, stands for the recipe; the bundle that users would meet (the same recipe on all rows) is
judged by what the held-out rows can still say of it: floors, parity, latency and size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stackyard.control.checks import Check, finite
from stackyard.control.comparison import margin, slices
from stackyard.control.figures import ALL, calibration_error, statistic
from stackyard.control.proof import CandidateFacts, HoldoutTable
from stackyard.spec.loop import GatesSpec, MonitoringSpec
from stackyard.spec.metrics import METRICS, metric, more_is_better
from stackyard.spec.models import TaskSpec

KIND, VERSION = "gate-report", 1


@dataclass(frozen=True)
class GateReport:
    """What the gates said."""

    passed: bool
    checks: list[Check]
    figures: dict[str, Any]
    subject: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """One sentence for people: what was missing, or that nothing was."""
        failed = [check.reason for check in self.checks if check.passed is False]
        return "; ".join(failed) if failed else f"all of {len(self.checks)} checks passed or were only reported"

    def plain(self) -> dict[str, Any]:
        """As JSON values; its digest is what approvals bind."""
        return {
            "kind": KIND,
            "version": VERSION,
            "passed": self.passed,
            "reason": self.reason,
            "subject": dict(self.subject),
            "checks": [finite(check.plain()) for check in self.checks],
            "figures": finite(self.figures),
        }


def judge(
    spec: GatesSpec,
    monitoring: MonitoringSpec,
    task: TaskSpec,
    table: HoldoutTable,
    facts: CandidateFacts,
    rng: np.random.Generator,
) -> GateReport:
    """Every check of `spec`; the candidate passes when none of them failed. `rng` draws the resamples."""
    fair = np.zeros(len(table.labels), dtype=bool)
    if facts.champion_data_end is not None:
        fair = table.time >= np.datetime64(facts.champion_data_end, "us")
    common = table.rows(fair)
    figures: dict[str, Any] = {
        "metric": metric(task),
        "rows": len(table.labels),
        "compared": len(common.labels),
        "candidate": _figures(task, table.labels, table.candidate),
        "refit": dict(facts.refit),
        "backtest": list(facts.backtest),
    }
    checks = [*_compared(spec, monitoring, task, common, facts, rng, figures)]
    checks += _floors(spec, monitoring, figures["candidate"], "floor", "the trial")
    if facts.refit:
        checks += _floors(spec, monitoring, dict(facts.refit), "refit floor", "the refitted bundle")
    checks += [*_calibration(spec, task, table, common, figures), *_machine(spec, facts), *_kpi(spec, facts)]
    return GateReport(all(check.passed is not False for check in checks), checks, figures, facts.subject)


def _compared(
    spec: GatesSpec,
    monitoring: MonitoringSpec,
    task: TaskSpec,
    table: HoldoutTable,
    facts: CandidateFacts,
    rng: np.random.Generator,
    figures: dict[str, Any],
) -> Iterator[Check]:
    """What needs both models on rows that are new to both."""
    if table.champion is None:
        yield Check("champion", False, None, None, f"the champion was not asked: {facts.problem or 'no reason given'}")
        return
    count = len(table.labels)
    enough = count >= spec.rows
    seen = f"rows before {facts.champion_data_end} taught the champion" if facts.champion_data_end else _UNKNOWN_END
    told = f"{count} held-out rows are new to both models, {spec.rows} are asked for; {seen}"
    yield Check("rows", enough, count, spec.rows, told)
    if not enough:
        return
    figures["champion"] = _figures(task, table.labels, table.champion)
    yield margin(spec, task, table, rng, figures)
    yield from slices(spec, monitoring, task, table, rng, figures)
    if spec.backtest and not facts.backtest:
        yield Check("backtest", False, None, -spec.margin, "no earlier span was long enough to try the recipe on")
    elif facts.backtest:
        mean = float(np.mean(facts.backtest))
        told = f"over {len(facts.backtest)} earlier spans the recipe differs by {mean:+.4f} on average"
        yield Check("backtest", mean >= -spec.margin, mean, -spec.margin, told)


def _floors(
    spec: GatesSpec, monitoring: MonitoringSpec, found: dict[str, float], kind: str, whose: str
) -> Iterator[Check]:
    for name, limit in sorted((spec.floors or monitoring.floors).items()):
        value = found.get(name, float("nan"))
        if not math.isfinite(value):
            yield Check(f"{kind} {name}", False, None, limit, f"these rows cannot give the {name} of {whose}")
            continue
        passed = value >= limit if more_is_better(name) else value <= limit
        side = "at least" if more_is_better(name) else "at most"
        yield Check(
            f"{kind} {name}", passed, value, limit, f"{name} of {whose} is {value:.4f}, {side} {limit:g} is asked for"
        )


def _calibration(
    spec: GatesSpec, task: TaskSpec, table: HoldoutTable, common: HoldoutTable, figures: dict[str, Any]
) -> Iterator[Check]:
    """The candidate's on all of `table`; against the champion's only on the rows of `common`, new to both."""
    if task.type == "regression":
        return
    value = calibration_error(task, table.labels, table.candidate)
    mine = calibration_error(task, common.labels, common.candidate)
    theirs = math.nan if common.champion is None else calibration_error(task, common.labels, common.champion)
    figures["calibration"], figures["champion_calibration"] = value, theirs
    told = f"the expected calibration error is {value:.4f}, at most {spec.calibration:g} is asked for"
    passed = math.isfinite(value) and value <= spec.calibration
    if not passed and mine <= theirs:  # the world moved: to keep the worse calibrated of both would help nobody
        passed, told = True, f"{told}; the champion's, {theirs:.4f}, is no better on the rows that are new to both"
    yield Check("calibration", passed, value, spec.calibration, told)


def _machine(spec: GatesSpec, facts: CandidateFacts) -> Iterator[Check]:
    """What the bundle is as a thing to run."""
    slow = facts.seconds_per_row
    told = f"one row takes {slow * 1e3:.2f} ms, at most {spec.latency * 1e3:g} ms is asked for"
    yield Check("latency", slow <= spec.latency, slow, spec.latency, told)
    told = f"the model has {facts.size} bytes, at most {spec.size} is asked for"
    yield Check("size", facts.size <= spec.size, facts.size, spec.size, told)
    told = {
        True: "the stored bundle answers its golden rows as it did when it was made",
        False: "the stored bundle answers its golden rows otherwise than when it was made",
        None: "the golden rows of the stored bundle were not tried",
    }[facts.parity]
    yield Check("parity", bool(facts.parity), None, None, told)


def _kpi(spec: GatesSpec, facts: CandidateFacts) -> Iterator[Check]:
    mine, theirs = facts.kpi
    if mine is None or theirs is None:
        if spec.kpi_drop is not None:
            yield Check("kpi", False, mine, None, "monitoring.kpi gave no number for both models")
        return
    passed = None if spec.kpi_drop is None else mine >= theirs - spec.kpi_drop
    limit = None if spec.kpi_drop is None else theirs - spec.kpi_drop
    yield Check("kpi", passed, mine, limit, f"the project's own figure is {mine:.4g} against {theirs:.4g}")


def _figures(task: TaskSpec, labels: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    if not len(labels):
        return {}
    return {name: statistic(task, name, labels, outputs)(ALL) for name in METRICS[task.type]}


_UNKNOWN_END = "up to when the champion learnt is not known"
