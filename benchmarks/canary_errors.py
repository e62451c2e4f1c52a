"""Does a canary's watch keep its promise: few false alarms however often it looks, and harm found in little traffic?

    python benchmarks/canary_errors.py [--runs 1000] [--seed 4]

One configuration, the default rollout (alpha 0.05 over shadow and canaries of 5, 25 and 50 %), fixed seeds:
1. A/A: both arms fail 1 % of requests, 1 % of the challenger's answers are slow (the most that is no harm), shares are
   as asked. A run alarms if any test of any stage rejects after any request. Exact binomial test against alpha.
2. 1 against 2 % errors: the challenger's requests until the errors' test of each canary rejects (a shadow's errors are
   held to the margin), with the same share of alpha, against Wald's bound (1945) for any sequential test of that error
   and the power seen.
3. The flights' shadow: 920 rows a day, judged daily from day 7 to 14 by `decide`, against a champion of AUC 0.68.
Prints one JSON object; exit 1 if the false alarms are more than alpha allows (1 %) or a search found less than 90 %.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import binomtest, norm

from stackyard.control import differences, rollout
from stackyard.control.rollout import ArmFacts, Paired, StageEvidence, StageSeen
from stackyard.control.stage_checks import SLOW, test_alpha
from stackyard.data.sketches import Sketch
from stackyard.monitoring import sequential
from stackyard.spec.loop import MonitoringSpec, RolloutSpec, StageSpec
from stackyard.spec.models import TaskSpec

SPEC, MONITORING = RolloutSpec(), MonitoringSpec()
RATE, WORSE = 0.01, 0.02
ASKED = 4_000
"""The challenger's requests in a stage without a finding; more would be a long canary."""
PATIENCE = 60_000
"""The challenger's requests after which a search is given up."""
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=4)
    options = parser.parse_args()
    began, rng = time.perf_counter(), np.random.default_rng(options.seed)
    alarms = sum(_false_alarm(rng) for _ in range(options.runs))
    test = binomtest(alarms, options.runs, SPEC.alpha, alternative="greater")
    canaries = [step for step, stage in enumerate(SPEC.stages) if stage.kind == "canary"]
    searches = [_search(step, rng, options.runs // 4) for step in canaries]
    found = {
        "alpha": SPEC.alpha,
        "runs": options.runs,
        "false_alarms": alarms,
        "share": alarms / options.runs,
        "p_value_more_than_alpha": test.pvalue,
        "searches": searches,
        "shadow": [_shadow(difference, rng, options.runs // 5) for difference in (0.01, 0.0, -0.01, -0.02)],
        "seconds": round(time.perf_counter() - began),
    }
    print(json.dumps(found, indent=1))
    sys.exit(int(test.pvalue < 0.01 or any(each["found"] < 0.9 for each in searches)))


def _false_alarm(rng: np.random.Generator) -> bool:
    """Whether any test of any stage rejects; an e-value rises only with an event, so those are all the looks."""
    return any(
        _errors_alarm(stage, rng) or (stage.kind == "canary" and (_slow_alarm(stage, rng) or _ratio_alarm(stage, rng)))
        for stage in SPEC.stages
    )


def _errors_alarm(stage: StageSpec, rng: np.random.Generator) -> bool:
    if stage.kind == "shadow":
        failures, margin = np.flatnonzero(rng.random(ASKED) < RATE), SPEC.guards.errors
        alpha = test_alpha(SPEC, stage)
        return any(sequential.above(n + 1, int(at) + 1, margin).rejects(alpha) for n, at in enumerate(failures))
    return _first_rejection(stage, RATE, ASKED, rng) is not None


def _slow_alarm(stage: StageSpec, rng: np.random.Generator) -> bool:
    events = np.flatnonzero(rng.random(ASKED) < SLOW)
    alpha = test_alpha(SPEC, stage)
    return any(sequential.above(n + 1, int(at) + 1, SLOW).rejects(alpha) for n, at in enumerate(events))


def _ratio_alarm(stage: StageSpec, rng: np.random.Generator) -> bool:
    mine = np.cumsum(rng.random(int(ASKED / stage.share)) < stage.share)
    alpha = test_alpha(SPEC, stage)
    looks = ((at + 1, int(mine[at])) for at in range(9, len(mine), 10))
    return any(sequential.sample_ratio(all_ - own, own, stage.share).rejects(alpha) for all_, own in looks)


def _first_rejection(stage: StageSpec, rate: float, most: int, rng: np.random.Generator) -> int | None:
    """The challenger's requests at which a canary's test of errors rejects, looked at after each; None if never."""
    alpha, share = test_alpha(SPEC, stage), stage.share
    mine = rng.random(int(most / share)) < share
    failed = rng.random(len(mine)) < np.where(mine, rate, RATE)
    asked = np.cumsum(mine)
    events = np.flatnonzero(failed)
    own = np.cumsum(mine[events])
    for number, event in enumerate(events):
        if not mine[event]:
            continue
        b, total = int(own[number]), number + 1
        if sequential.TwoSampleRates(total - b, 0, b, 0, share).harm().rejects(alpha):
            return int(asked[event])
    return None


def _search(step: int, rng: np.random.Generator, runs: int) -> dict[str, Any]:
    """Requests to find twice the errors in one stage, and the bound."""
    stage = SPEC.stages[step]
    share = stage.share
    needed = [at for at in (_first_rejection(stage, WORSE, PATIENCE, rng) for _ in range(runs)) if at is not None]
    power, alpha = len(needed) / runs, test_alpha(SPEC, stage)
    pooled = share * WORSE + (1 - share) * RATE
    information = _divergence(WORSE, pooled) + (1 - share) / share * _divergence(RATE, pooled)
    lost = (1 - power) * math.log((1 - power) / (1 - alpha)) if power < 1 else 0.0
    bound = (power * math.log(power / alpha) + lost) / information
    return {
        "step": step,
        "share": stage.share,
        "alpha": alpha,
        "found": power,
        "mean": round(float(np.mean(needed))),
        "median": round(float(np.median(needed))),
        "p90": round(float(np.quantile(needed, 0.9))),
        "wald": round(bound),
        "ratio": round(float(np.mean(needed)) / bound, 2),
    }


def _divergence(p: float, q: float) -> float:
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def _shadow(difference: float, rng: np.random.Generator, runs: int) -> dict[str, Any]:
    """How often a challenger whose AUC differs by `difference` passes the flights' shadow, and when."""
    stages = (StageSpec.model_validate({"kind": "shadow", "time": "7d", "deadline": "14d"}),)
    spec, task = RolloutSpec(stages=stages), TaskSpec(type="binary", label="late")
    ended: dict[str, list[int]] = {"advance": [], "stop": [], "expire": []}
    spreads = []
    for _ in range(runs):
        rows = _rows(difference, 920 * 13, rng)
        for day in range(3, 15):
            seen = 920 * (day - 1)
            paired = Paired(*(each[:seen] for each in rows))
            arm = ArmFacts(920 * day, {"ok": 920 * day})
            now = START + dt.timedelta(days=day)
            evidence = StageEvidence(arm, arm, (920 * day, 920 * day), now, paired)
            verdict = rollout.decide(
                spec, task, StageSeen(0, "shadow", START), _with_outputs(evidence), now, MONITORING
            )
            if verdict.action != "hold":
                ended[verdict.action].append(day)
                break
        spreads.append(_spread(task, rows))
    return {
        "difference": difference,
        "passes": len(ended["advance"]) / runs,
        "stopped": len(ended["stop"]) / runs,
        "expires": len(ended["expire"]) / runs,
        "median_day": float(np.median(ended["advance"])) if ended["advance"] else None,
        "error_at_6_days": round(float(np.mean(spreads)) / math.sqrt(920 * 6), 4),
    }


def _with_outputs(evidence: StageEvidence) -> StageEvidence:
    """The same with outputs alike, so that the comparison alone decides."""

    bins = Sketch(kind="number", edges=(0.5,), counts=np.array([700, 220]), total=920)
    return replace(
        evidence,
        champion=replace(evidence.champion, outputs=bins),
        challenger=replace(evidence.challenger, outputs=bins),
    )


def _rows(difference: float, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (22 % late) and two binormal scores whose noise is shared by 82 %: 0.005 of standard error in 7 days."""
    labels = rng.random(count) < 0.22
    shared = rng.standard_normal(count) * math.sqrt(0.82)
    scores = [
        labels * math.sqrt(2) * norm.ppf(area) + shared + math.sqrt(0.18) * rng.standard_normal(count)
        for area in (0.68, 0.68 + difference)
    ]
    return labels.astype(float), scores[0], scores[1]


def _spread(task: TaskSpec, rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> float:

    found = differences.paired(task, *rows, rng=np.random.default_rng(0))
    return found.error * math.sqrt(found.rows)


if __name__ == "__main__":
    main()
