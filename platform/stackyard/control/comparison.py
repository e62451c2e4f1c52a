"""Is the candidate as good as the champion, overall and in every slice, or does chance explain the difference?

Both answer the same rows, so what makes a row hard cancels out: rows are resampled in pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from stackyard.control.checks import Check
from stackyard.control.figures import ALL, RESAMPLES, oriented, paired_bootstrap, statistic
from stackyard.control.proof import HoldoutTable
from stackyard.spec.loop import GatesSpec, MonitoringSpec
from stackyard.spec.metrics import metric, more_is_better
from stackyard.spec.models import TaskSpec

LEAST_RESAMPLES = 0.9
"""Share of resamples that must give the figure for an interval to be believed."""
_Judged = tuple[str, str, dict[str, Any]]
"""Column, value and figures of a slice with enough rows."""


def margin(
    spec: GatesSpec, task: TaskSpec, table: HoldoutTable, rng: np.random.Generator, figures: dict[str, Any]
) -> Check:
    """Whether the candidate is superior or not inferior, by the lower end of the paired bootstrap interval.

    `table` holds rows that are new to both; the interval goes into `figures`.
    """
    name = metric(task)
    assert table.champion is not None
    mine, theirs = (statistic(task, name, table.labels, outputs) for outputs in (table.candidate, table.champion))
    difference = oriented(name, mine(ALL) - theirs(ALL))
    draws = _draws(task, table, rng)
    limit = 0.0 if spec.require == "superior" else -spec.margin
    if not math.isfinite(difference) or len(draws) < LEAST_RESAMPLES * RESAMPLES:
        return Check("margin", False, None, limit, f"these rows cannot give the {name}: one class is (nearly) alone")
    low, high = (float(np.quantile(draws, share)) for share in (1 - spec.confidence, spec.confidence))
    figures["difference"] = {"value": difference, "low": low, "high": high, "confidence": spec.confidence}
    needs = "above 0 (superior)" if spec.require == "superior" else f"above {limit:g} (not inferior)"
    told = f"{name} {mine(ALL):.4f} against {theirs(ALL):.4f}, better by {difference:+.4f}"
    told += f"; the lower end at {spec.confidence:.0%} is {low:+.4f} and must be {needs}"
    return Check("margin", low > limit, low, limit, told)


def slices(
    spec: GatesSpec,
    monitoring: MonitoringSpec,
    task: TaskSpec,
    table: HoldoutTable,
    rng: np.random.Generator,
    figures: dict[str, Any],
) -> Iterator[Check]:
    """The worst slice against the champion, and the gap between the slices of one column."""
    name = metric(task)
    shown: dict[str, dict[str, Any]] = {}
    for column, values in table.slices.items():
        shown[column] = {str(value): _slice(task, name, table, values == value) for value in sorted(set(values))}
    figures["slices"] = shown
    judged = [
        (column, value, found)
        for column, entries in shown.items()
        for value, found in entries.items()
        if found["rows"] >= monitoring.slice_rows and found["difference"] is not None
    ]
    for _, _, found in judged:
        found["judged"] = True
    if not shown:
        return
    if not judged:
        yield Check("worst slice", None, None, -spec.slice_drop, f"no slice has {monitoring.slice_rows} rows")
        return
    yield _worst(spec, task, table, judged, rng)
    for column in shown:
        own = [(found["candidate"], value) for at, value, found in judged if at == column]
        if len(own) > 1:
            (low, worst_value), (high, best_value) = min(own), max(own)
            passed = None if spec.slice_gap is None else high - low <= spec.slice_gap
            told = f"{name} of {column}: {low:.4f} for {worst_value}, {high:.4f} for {best_value}"
            yield Check(f"gap of {column}", passed, high - low, spec.slice_gap, told)


def _worst(
    spec: GatesSpec, task: TaskSpec, table: HoldoutTable, judged: list[_Judged], rng: np.random.Generator
) -> Check:
    """A slice fails when it lost more than it may and that is no chance: the upper end of its interval is below 0.

    The confidence is shared out over all judged slices (Bonferroni): with twenty of them one looks bad by chance.
    """
    name, share = metric(task), 1 - (1 - spec.confidence) / len(judged)
    ordered = sorted(judged, key=lambda one: one[2]["difference"])
    told = "{} {} ({rows} rows) differs most from the champion: {difference:+.4f} " + name
    for column, value, found in ordered:
        if found["difference"] >= -spec.slice_drop:
            break
        part = table.rows(table.slices[column] == value)
        found["high"] = float(np.quantile(_draws(task, part, rng), share))
        if found["high"] < 0:
            reason = f"{told.format(column, value, **found)}, and more than chance explains"
            return Check("worst slice", False, found["difference"], -spec.slice_drop, reason)
    column, value, worst = ordered[0]
    reason = told.format(column, value, **worst)
    reason += "" if worst["difference"] >= -spec.slice_drop else ", which chance explains"
    return Check("worst slice", True, worst["difference"], -spec.slice_drop, reason)


def _draws(task: TaskSpec, table: HoldoutTable, rng: np.random.Generator) -> np.ndarray:
    """Differences of the deciding metric over resamples, more is better."""
    assert table.champion is not None
    name = metric(task)
    pair = [statistic(task, name, table.labels, outputs) for outputs in (table.candidate, table.champion)]
    draws = paired_bootstrap(pair[0], pair[1], len(table.labels), rng)
    return draws if more_is_better(name) else -draws


def _slice(task: TaskSpec, name: str, table: HoldoutTable, chosen: np.ndarray) -> dict[str, Any]:
    part = table.rows(chosen)
    assert part.champion is not None
    mine, theirs = (statistic(task, name, part.labels, outputs)(ALL) for outputs in (part.candidate, part.champion))
    difference = oriented(name, mine - theirs)
    known = math.isfinite(difference)
    return {
        "rows": len(part.labels),
        "candidate": mine if known else None,
        "champion": theirs if known else None,
        "difference": difference if known else None,
        "judged": False,
    }
