"""What holds of every decision about retraining, whatever is seen and however often."""

from __future__ import annotations

import datetime as dt
import itertools
import random
from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stackyard.control.policy import Hold, PastRun, PolicySeen, Propose, Retrain, decide
from stackyard.spec.loop import RetrainingSpec

NOW = dt.datetime(2030, 3, 15, 12, tzinfo=dt.UTC)
SEEN = PolicySeen(
    champion_data_end=dt.date(2030, 3, 1), labelled_until=dt.date(2030, 3, 14), data_start=dt.date(2030, 1, 1)
)

_RUNS = st.lists(
    st.builds(
        PastRun,
        started=st.integers(0, 60 * 24).map(lambda hours: NOW - dt.timedelta(hours=hours)),
        promoted=st.sampled_from([True, False, None]),
        cpu_hours=st.floats(0, 3),
        gpu_hours=st.floats(0, 3),
        by_hand=st.booleans(),
    ),
    max_size=8,
)
_SEEN = st.builds(
    PolicySeen,
    champion_data_end=st.dates(dt.date(2030, 1, 1), dt.date(2030, 3, 15)),
    labelled_until=st.dates(dt.date(2029, 12, 31), dt.date(2030, 3, 15)),
    data_start=st.just(dt.date(2030, 1, 1)),
    metric_alarm=st.sampled_from([None, "low"]),
    drift_alarm=st.sampled_from([None, "drift"]),
    shift_since=st.none() | st.dates(dt.date(2029, 1, 1), dt.date(2030, 3, 15)),
    new_rows=st.integers(0, 2000),
    runs=_RUNS,
    by_hand=st.sampled_from([None, "because"]),
    paused=st.booleans(),
    running=st.booleans(),
)
_SPECS = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(["off", "propose", "auto"]),
        "when": st.sampled_from(["any", "all"]),
        "cooldown": st.sampled_from(["1h", "2d", "7d"]),
        "quiet_hours": st.sampled_from([None, "22:00-06:00", "11:00-12:30"]),
        "timezone": st.sampled_from(["UTC", "Europe/Zurich", "Pacific/Auckland"]),
        "daily_limit": st.integers(1, 3),
        "triggers": st.fixed_dictionaries(
            {"rows": st.sampled_from([None, 1000]), "schedule": st.sampled_from([None, {"cron": "0 3 * * 1"}])}
        ),
        "budget": st.fixed_dictionaries(
            {"cpu_hours": st.sampled_from([None, 2.0]), "money": st.sampled_from([None, 3.0])}
        ),
    }
).map(RetrainingSpec.model_validate)


@settings(max_examples=300, deadline=None)
@given(_SPECS, _SEEN)
def test_what_starts_is_never_held_by_anything(spec: RetrainingSpec, seen: PolicySeen) -> None:
    found = decide(spec, seen, NOW)
    assert found.reason
    if isinstance(found, Hold):
        assert found.until is None or found.until > NOW
        return
    assert not seen.running
    assert not seen.paused
    assert found.window.start < found.window.end == seen.labelled_until
    assert found.window.start >= seen.data_start
    if seen.by_hand is None:
        assert spec.mode != "off"
        assert all(run.started + dt.timedelta(seconds=spec.cooldown) <= NOW for run in seen.runs)
        assert isinstance(found, Propose) == (spec.mode == "propose")
    if spec.budget.cpu_hours is not None:
        month = [run.cpu_hours for run in set(seen.runs) if run.started.month == NOW.month]
        assert sum(month) <= spec.budget.cpu_hours + 1e-9


@settings(max_examples=150, deadline=None)
@given(_SPECS, _SEEN, st.randoms(use_true_random=False))
def test_order_and_repetition_of_what_is_seen_change_nothing(
    spec: RetrainingSpec, seen: PolicySeen, chance: random.Random
) -> None:
    assume(len({run.started for run in seen.runs}) == len(seen.runs))  # one run at a time: no two begin together
    shuffled = [*seen.runs, *chance.sample(list(seen.runs), len(seen.runs) // 2)]
    chance.shuffle(shuffled)
    assert decide(spec, replace(seen, runs=shuffled), NOW) == decide(spec, seen, NOW)


@settings(max_examples=60, deadline=None)
@given(_SPECS, st.lists(st.tuples(st.integers(1, 40), st.booleans(), st.booleans(), st.booleans()), max_size=60))
def test_a_life_never_breaks_cooldown_budget_or_daily_limit(
    spec: RetrainingSpec, steps: list[tuple[int, bool, bool, bool]]
) -> None:
    """Hours pass, alarms and wishes come in storms: each answer is taken up, and then asked for again at once."""
    now, runs, cost = NOW, [], 0.7
    for hours, alarm, wish, promoted in steps:
        now += dt.timedelta(hours=hours)
        seen = replace(
            SEEN,
            labelled_until=now.date(),
            metric_alarm="low" if alarm else None,
            drift_alarm="drift" if alarm else None,
            by_hand="wish" if wish else None,
            expected=(cost, 0.0),
            runs=tuple(runs),
        )
        if isinstance(decide(spec, seen, now), Retrain):
            assert isinstance(decide(spec, replace(seen, running=True), now), Hold)
            runs.append(PastRun(now, promoted, cpu_hours=cost, by_hand=wish))
            again = replace(seen, by_hand=None, runs=tuple(runs))
            assert isinstance(decide(spec, again, now), Hold)
    for before, after in itertools.pairwise(runs):
        assert after.by_hand or (after.started - before.started).total_seconds() >= spec.cooldown
    for month in {(run.started.year, run.started.month) for run in runs}:
        spent = sum(run.cpu_hours for run in runs if (run.started.year, run.started.month) == month)
        assert spent <= (spec.budget.cpu_hours or float("inf")) + 1e-9
