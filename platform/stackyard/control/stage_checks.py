"""The checks of one rollout stage, each a figure against its limit.

`passed` is False where a test speaks against the challenger, None where it is too early to say.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from stackyard.control import differences
from stackyard.control.checks import Check
from stackyard.control.stage_facts import StageEvidence, StageSeen
from stackyard.data.sketches import Sketch
from stackyard.monitoring import sequential
from stackyard.monitoring.distances import psi
from stackyard.spec.loop import MonitoringSpec, RolloutSpec, StageSpec
from stackyard.spec.metrics import metric
from stackyard.spec.models import TaskSpec

SLOW = 0.01
"""Share of answers that may lie beyond the champion's 99th percentile: the champion's own."""
CONFIDENCE = 0.95
"""One-sided confidence of the shadow's comparison, over all its looks together."""
NOISE = 4.0
"""Standard errors that a PSI must be above its limit: 3 in 100,000 at one look, so it takes nothing of alpha."""
LEAST_ROWS = 100
"""Labelled rows below which no mean is taken for normal."""


@dataclass(frozen=True)
class Judging:
    """What the checks look at."""

    spec: RolloutSpec
    asked: StageSpec
    task: TaskSpec
    stage: StageSeen
    evidence: StageEvidence
    monitoring: MonitoringSpec
    rng: np.random.Generator

    @property
    def shadow(self) -> bool:
        return self.asked.kind == "shadow"

    @property
    def whole(self) -> bool:
        """Whether every request goes to the challenger: no champion answers beside it."""
        return not self.shadow and self.asked.share >= 1

    @property
    def alpha(self) -> float:
        """The part of alpha that one test of this stage has."""
        return test_alpha(self.spec, self.asked)


def test_alpha(spec: RolloutSpec, stage: StageSpec) -> float:
    """The rollout's alpha, shared evenly by the stages and then by the stage's tests (union bound).

    Shadow: errors, metric. Canary: errors, latency, sample ratio, and the metric where it is guarded.
    """
    tests = 2 if stage.kind == "shadow" else 3 + (spec.guards.metric is not None)
    return spec.alpha / (len(spec.stages) * tests)


def of(seen: Judging) -> Iterator[Check]:
    """Every check of the stage but its time."""
    challenger = seen.evidence.challenger
    told = f"the challenger was asked {challenger.tried} requests, {seen.asked.requests} are asked for"
    enough = True if challenger.tried >= seen.asked.requests else None
    yield Check("requests", enough, challenger.tried, seen.asked.requests, told)
    yield from _errors(seen)
    yield from _latency(seen)
    yield _predictions(seen)
    if seen.shadow:
        yield _paired(seen)
    else:
        yield _ratio(seen)
        if seen.spec.guards.metric is not None:
            yield _metric(seen, seen.spec.guards.metric)


def reported(seen: Judging) -> frozenset[str]:
    """Names of checks that are shown and decide nothing in this stage: a shadow's time is no user's time."""
    if seen.shadow:
        return frozenset({"latency", "latency excluded"})
    return frozenset({"predictions", "sample ratio"}) if seen.whole else frozenset()


def _rates(seen: Judging) -> sequential.TwoSampleRates:
    a, b = seen.evidence.champion, seen.evidence.challenger
    if seen.whole:
        return sequential.TwoSampleRates(0, 0, b.failures, b.tried, 1.0)
    share = seen.asked.share
    if seen.shadow or seen.evidence.fused or seen.spec.key is not None:
        # Which requests it gets is then no draw: a shadow sees what the champion sees, a fuse keeps requests from it,
        # and callers who stay on one arm ask more or less than others.
        share = b.tried / max(a.tried + b.tried, 1)
    share = min(max(share, 1e-6), 1 - 1e-6)
    return sequential.TwoSampleRates(a.failures, a.tried, b.failures, b.tried, share)


def _errors(seen: Judging) -> Iterator[Check]:
    """Errors: harm, its exclusion, and fuses that blew."""
    rates, margin = _rates(seen), seen.spec.guards.errors
    b = seen.evidence.challenger
    # A shadow's failures hurt nobody: only more of them than a canary may be allowed speak against it.
    harm = sequential.above(b.failures, b.tried, margin) if seen.whole or seen.shadow else rates.harm()
    shown = ", ".join(f"{name} {count}" for name, count in sorted(b.outcomes.items()) if name != "ok" and count)
    told = f"the challenger failed {b.failures} of {b.tried} requests ({shown or 'none'})"
    if not seen.whole:
        told += f", the champion {rates.failures_a} of {rates.requests_a}"
    yield _guard("errors", harm, seen.alpha, told)
    excess = rates.excess(seen.spec.alpha)
    passed = True if excess < margin else None
    done = f"more than {margin:.1%} more errors than the champion are excluded"
    open_ = f"{excess:.1%} more errors than the champion are not yet excluded, {margin:.1%} must be"
    yield Check("errors excluded", passed, excess, margin, done if passed else open_)
    if seen.evidence.fused:
        told = f"the fuse blew in {seen.evidence.fused} replicas, which ask the challenger no more"
        yield Check("fuse", None, seen.evidence.fused, 0, told)


def _latency(seen: Judging) -> Iterator[Check]:
    b, margin = seen.evidence.challenger, seen.spec.guards.errors
    answered = b.outcomes.get("ok", 0)
    told = f"{b.slow} of {answered} answers took {seen.spec.guards.latency * 1e3:g} ms longer than the champion's p99"
    yield _guard("latency", sequential.above(b.slow, answered, SLOW), seen.alpha, told)
    highest, limit = sequential.upper(b.slow, answered, seen.spec.alpha), min(SLOW + margin, 1.0)
    passed = True if highest < limit else None
    done, open_ = f"more than {limit:.1%} slow answers are excluded", f"up to {highest:.1%} slow answers are possible"
    yield Check(
        "latency excluded", passed, highest, limit, done if passed else f"{open_}, {limit:.1%} must be excluded"
    )


def _guard(name: str, evidence: sequential.Evidence, alpha: float, told: str) -> Check:
    rejected = evidence.rejects(alpha)
    said = f"{told}: e-value {evidence.value:.3g}, {1 / alpha:.0f} is harm"
    return Check(name, not rejected, evidence.value, 1 / alpha, said)


def _ratio(seen: Judging) -> Check:
    a, b = seen.evidence.assigned
    told = f"{b} of {a + b} went to the challenger, {seen.asked.share:.0%} are asked for"
    return _guard("sample ratio", sequential.sample_ratio(a, b, seen.asked.share), seen.alpha, told)


def _predictions(seen: Judging) -> Check:
    limit = seen.spec.guards.predictions
    a, b = (_sketches(arm.outputs) for arm in (seen.evidence.champion, seen.evidence.challenger))
    if len(a) != len(b) or not a or any(not each.present for each in (*a, *b)):
        return Check("predictions", None, None, limit, "there are no outputs of both arms to compare yet")
    found = [_psi(one.table, other.table) for one, other in zip(a, b, strict=True)]
    value, noise = max(found)
    passed = True if value <= limit else False if value - NOISE * noise > limit else None
    told = f"the PSI of outputs between challenger and champion is {value:.3f}, at most {limit:g} is asked for"
    return Check("predictions", passed, value, limit, told)


def _sketches(outputs: Sketch | Sequence[Sketch] | None) -> list[Sketch]:
    if outputs is None:
        return []
    return [outputs] if isinstance(outputs, Sketch) else list(outputs)


def _psi(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """PSI less what two samples of one distribution have by chance, and the standard error of that chance.

    By chance it is a chi-square of bins - 1 degrees times (1/n + 1/m): Yurdakul and Naranjo (2020), theorem 3.1.
    """
    bins, scale = int(((first + second) > 0).sum()), 1 / float(first.sum()) + 1 / float(second.sum())
    return float(psi(second, first)) - (bins - 1) * scale, math.sqrt(2 * max(bins - 1, 1)) * scale


def _paired(seen: Judging) -> Check:
    """The shadow's question: superior, or not inferior by more than the margin, on the same labelled rows."""
    name, paired = metric(seen.task), seen.evidence.paired
    limit = -seen.spec.margin if seen.stage.routine else 0.0
    rows = 0 if paired is None else len(paired.labels)
    if paired is None or rows < LEAST_ROWS:
        return Check("metric", None, None, limit, f"{rows} rows are labelled, {seen.monitoring.rows} are asked for")
    found = differences.paired(seen.task, paired.labels, paired.champion, paired.challenger, seen.rng)
    if not found.known:
        return Check("metric", None, None, limit, f"{rows} labelled rows cannot give the {name}")
    told = f"{name} is better by {found.value:+.4f} (standard error {found.error:.4f}) on {rows} labelled rows"
    best = found.value + sequential.mean_width(rows, found.error, seen.alpha)
    if best < limit:
        return Check("metric", False, found.value, limit, f"{told}: at best {best:+.4f}, inferior beyond {limit:g}")
    if rows < seen.monitoring.rows:
        return Check("metric", None, found.value, limit, f"{told}; {seen.monitoring.rows} are asked for")
    needed = sequential.boundary(growth(seen.asked, seen.monitoring.label_delay), 1 - CONFIDENCE)
    lowest = found.value - needed * found.error
    if lowest > 0:
        return Check("metric", True, lowest, limit, f"{told}: superior")
    if lowest > limit:
        return Check("metric", True, lowest, limit, f"{told}: not inferior, at worst {lowest:+.4f}")
    return Check("metric", None, lowest, limit, f"{told}: at worst {lowest:+.4f}, above {limit:g} is asked for")


def growth(stage: StageSpec, label_delay: float) -> float:
    """How many times more labelled rows a shadow has at its deadline than at its first look, at most 50."""
    last = max(stage.deadline - label_delay, 1.0)
    return last / min(max(stage.time - label_delay, last / 50), last)


def _metric(seen: Judging, margin: float) -> Check:
    """The canary's guard on the metric: each arm on rows of its own."""
    a, b = seen.evidence.champion, seen.evidence.challenger
    fewest = min(0 if arm.labels is None else len(arm.labels) for arm in (a, b))
    if a.labels is None or b.labels is None or a.answers is None or b.answers is None or fewest < LEAST_ROWS:
        told = f"{fewest} rows of an arm are labelled, {LEAST_ROWS} are asked for"
        return Check("metric", None, None, -margin, told)
    found = differences.apart(seen.task, (a.labels, a.answers), (b.labels, b.answers), seen.rng)
    if not found.known:
        return Check("metric", None, None, -margin, "the labelled rows cannot give the metric")
    told = f"{metric(seen.task)} is better by {found.value:+.4f} (standard error {found.error:.4f})"
    if found.value + sequential.mean_width(found.rows, found.error, seen.alpha) < -margin:
        return Check("metric", False, found.value, -margin, f"{told}: worse by more than {margin:g}")
    lowest = found.value - sequential.mean_width(found.rows, found.error, seen.spec.alpha)
    passed = True if lowest > -margin else None
    return Check("metric", passed, lowest, -margin, f"{told}: at worst {lowest:+.4f}")
