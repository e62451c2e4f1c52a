"""When a model is retrained: a table of situations."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from stackyard.control.policy import Hold, PastRun, PolicySeen, Propose, Retrain, decide
from stackyard.control.timetable import is_quiet, newest_firing, quiet_until
from stackyard.spec.loop import RetrainingSpec

NOW = dt.datetime(2030, 3, 15, 12, tzinfo=dt.UTC)
SEEN = PolicySeen(
    champion_data_end=dt.date(2030, 3, 1), labelled_until=dt.date(2030, 3, 14), data_start=dt.date(2030, 1, 1)
)
LOW = replace(SEEN, metric_alarm="auc .61 is under its floor .65")


def _spec(**fields: Any) -> RetrainingSpec:
    return RetrainingSpec.model_validate(fields)


def _run(days: float, promoted: bool | None = True, **more: Any) -> PastRun:
    return PastRun(NOW - dt.timedelta(days=days), promoted, **more)


_STARTS = [
    pytest.param({}, LOW, "metric: auc .61", id="metric"),
    pytest.param({}, replace(SEEN, drift_alarm="distance"), "drift: distance", id="drift"),
    pytest.param({"triggers": {"rows": 100}}, replace(SEEN, new_rows=100), "rows: 100 new ones", id="rows"),
    pytest.param({"triggers": {"every": "14d"}}, SEEN, "age: the champion's data ends 2030-03-01", id="age"),
    pytest.param({"triggers": {"schedule": {"cron": "0 3 * * 5"}}}, SEEN, "fired at 2030-03-15 03:00", id="schedule"),
    pytest.param({}, replace(SEEN, by_hand="new sensor"), "by hand: new sensor", id="by-hand"),
    pytest.param({"mode": "off"}, replace(SEEN, by_hand="x"), "by hand", id="by-hand-when-off"),
    pytest.param({"mode": "propose"}, replace(SEEN, by_hand="x"), "by hand", id="by-hand-when-proposing"),
    pytest.param({}, replace(SEEN, by_hand="x", runs=(_run(1),)), "by hand", id="by-hand-passes-cooldown"),
    pytest.param(
        {}, replace(SEEN, by_hand="x", runs=(_run(8, False), _run(9, False))), "by hand", id="by-hand-passes-breaker"
    ),
    pytest.param(
        {"when": "all"},
        replace(LOW, drift_alarm="distance"),
        "metric: auc .61 is under its floor .65 and drift",
        id="all",
    ),
    pytest.param({}, replace(LOW, runs=(_run(7),)), "metric", id="cooldown-over"),
    pytest.param({}, replace(LOW, runs=(_run(22, False), _run(14, False))), "metric", id="breaker-rested"),
    pytest.param({}, replace(LOW, runs=(_run(9, False), _run(8, None))), "metric", id="undecided-run-is-not-in-vain"),
    pytest.param(
        {"budget": {"cpu_hours": 2}}, replace(LOW, runs=(_run(20, cpu_hours=1.9),)), "metric", id="last-month-is-paid"
    ),
    pytest.param({"quiet_hours": "13:00-12:00"}, LOW, "metric", id="the-end-of-quiet-hours-is-not-quiet"),
]


@pytest.mark.parametrize(("fields", "seen", "why"), _STARTS)
def test_it_retrains_and_says_which_trigger(fields: dict[str, Any], seen: PolicySeen, why: str) -> None:
    found = decide(_spec(**fields), seen, NOW)
    assert isinstance(found, Retrain)
    assert why in found.reason
    assert found.window.end == SEEN.labelled_until


def _at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


_HELD = [
    pytest.param({}, SEEN, "the metric holds, nothing drifts", None, id="nothing-asks"),
    pytest.param({"mode": "off"}, LOW, "retraining.mode is off", None, id="off"),
    pytest.param({}, replace(LOW, paused=True), "paused (`stackyard resume`)", None, id="paused"),
    pytest.param({}, replace(LOW, by_hand="x", paused=True), "paused", None, id="paused-by-hand-too"),
    pytest.param({}, replace(LOW, running=True), "one at a time", None, id="running"),
    pytest.param({}, replace(LOW, by_hand="x", running=True), "one at a time", None, id="running-by-hand-too"),
    pytest.param({}, replace(LOW, runs=(_run(2),)), "cooldown", "2030-03-20 12:00", id="cooldown"),
    pytest.param({"when": "all"}, LOW, "`when: all` asks for: nothing drifts", None, id="not-all"),
    pytest.param(
        {"triggers": {"metric": False, "drift": False}}, LOW, "retraining.triggers names none", None, id="no-trigger"
    ),
    pytest.param(
        {"triggers": {"every": "20d"}}, SEEN, "its data ends", "2030-03-21 00:00", id="until-the-age-is-reached"
    ),
    pytest.param(
        {"triggers": {"schedule": {"cron": "0 3 * * 5"}}},
        replace(SEEN, runs=(_run(0.2),)),
        "has not fired since",
        "2030-03-22 03:00",
        id="until-the-schedule-fires",
    ),
    pytest.param({"quiet_hours": "11:00-13:30"}, LOW, "quiet hours", "2030-03-15 13:30", id="quiet"),
    pytest.param({"quiet_hours": "22:00-14:00"}, LOW, "quiet hours", "2030-03-15 14:00", id="quiet-over-midnight"),
    pytest.param(
        {"quiet_hours": "20:00-22:00", "timezone": "Asia/Tokyo"}, LOW, "Tokyo", "2030-03-15 13:00", id="quiet-elsewhere"
    ),
    pytest.param(
        {"daily_limit": 1}, replace(LOW, by_hand="x", runs=(_run(0.1),)), "daily limit", "2030-03-16 00:00", id="daily"
    ),
    pytest.param(
        {"daily_limit": 1, "timezone": "Europe/Zurich"},
        replace(LOW, by_hand="x", runs=(_run(0.1),)),
        "daily limit",
        "2030-03-15 23:00",
        id="daily-elsewhere",
    ),
    pytest.param(
        {"budget": {"cpu_hours": 2}},
        replace(LOW, by_hand="x", runs=(_run(9, cpu_hours=1.2),)),
        "2 CPU-hours has 0.8 left, a run takes 1.2",
        "2030-04-01 00:00",
        id="budget-of-cpu",
    ),
    pytest.param({"budget": {"cpu_hours": 0}}, LOW, "0 CPU-hours", "2030-04-01 00:00", id="budget-of-nothing"),
    pytest.param(
        {"budget": {"gpu_hours": 1}},
        replace(LOW, expected=(0.0, 1.5)),
        "GPU-hours",
        "2030-04-01 00:00",
        id="budget-of-gpu",
    ),
    pytest.param(
        {"budget": {"money": 5, "cpu_hour_price": 2, "gpu_hour_price": 10}},
        replace(LOW, runs=(_run(9, cpu_hours=0.5, gpu_hours=0.3),)),
        "5 money has 1 left, a run takes 4",
        "2030-04-01 00:00",
        id="budget-of-money",
    ),
    pytest.param(
        {}, replace(LOW, runs=(_run(20, False), _run(10, False))), "breaker", "2030-03-19 12:00", id="breaker"
    ),
    pytest.param(
        {},
        replace(LOW, runs=(_run(40, False), _run(30, False), _run(10, False))),
        "the last 3 retrainings brought nothing",
        "2030-04-02 12:00",
        id="breaker-rests-twice-as-long",
    ),
    pytest.param(
        {},
        replace(LOW, runs=tuple(_run(10 + days, False) for days in range(9))),
        "breaker",
        "2030-04-30 12:00",
        id="breaker-rests-four-times-at-most",
    ),
    pytest.param(
        {},
        replace(LOW, champion_data_end=SEEN.labelled_until),
        "has not learnt from",
        None,
        id="nothing-new-is-labelled",
    ),
    pytest.param(
        {}, replace(LOW, labelled_until=SEEN.data_start, by_hand="x"), "no day since", None, id="nothing-is-labelled"
    ),
    pytest.param(
        {}, replace(LOW, runs=(_run(2),), paused=True), "paused (`stackyard resume`) and the cooldown", None, id="both"
    ),
]


@pytest.mark.parametrize(("fields", "seen", "why", "until"), _HELD)
def test_it_holds_and_says_why_and_until_when(
    fields: dict[str, Any], seen: PolicySeen, why: str, until: str | None
) -> None:
    found = decide(_spec(**fields), seen, NOW)
    assert isinstance(found, Hold), found
    assert why in found.reason
    assert found.until == (None if until is None else _at(until))


def test_in_propose_mode_a_person_is_asked() -> None:
    found = decide(_spec(mode="propose"), LOW, NOW)
    assert isinstance(found, Propose)
    assert "`stackyard train`" in found.reason


_WINDOWS = [
    pytest.param({"kind": "all"}, None, "2030-01-01", id="all"),
    pytest.param({"kind": "sliding", "span": "30d"}, None, "2030-02-12", id="sliding"),
    pytest.param({"kind": "sliding", "span": "900d"}, None, "2030-01-01", id="sliding-longer-than-the-data"),
    pytest.param({"kind": "since_shift", "span": "7d"}, dt.date(2030, 2, 1), "2030-02-01", id="since-the-shift"),
    pytest.param({"kind": "since_shift", "span": "30d"}, dt.date(2030, 3, 10), "2030-02-12", id="at-least-the-span"),
    pytest.param({"kind": "since_shift", "span": "7d"}, dt.date(2029, 1, 1), "2030-01-01", id="shift-before-the-data"),
    pytest.param({"kind": "since_shift", "span": "7d"}, None, "2030-01-01", id="no-shift-seen"),
]


@pytest.mark.parametrize(("window", "shift", "start"), _WINDOWS)
def test_the_window_is_part_of_the_policy_and_ends_where_labels_do(
    window: dict[str, Any], shift: dt.date | None, start: str
) -> None:
    found = decide(_spec(window=window), replace(LOW, shift_since=shift), NOW)
    assert isinstance(found, Retrain)
    assert (found.window.start.isoformat(), found.window.end) == (start, SEEN.labelled_until)


_CLOCK_CHANGES = [
    pytest.param("2030-03-31 00:30", "23:00-02:30", "2030-03-31 01:00", id="the-hour-of-the-end-is-skipped"),
    pytest.param("2030-10-27 00:15", "01:00-02:30", "2030-10-27 00:30", id="the-end-comes-first-in-summer-time"),
    pytest.param("2030-10-27 01:15", "01:00-02:30", "2030-10-27 01:30", id="and-once-more-in-winter-time"),
]


@pytest.mark.parametrize(("now", "hours", "until"), _CLOCK_CHANGES)
def test_quiet_hours_follow_the_wall_clock_when_it_is_changed(now: str, hours: str, until: str) -> None:
    assert is_quiet(hours, "Europe/Zurich", _at(now))
    assert quiet_until(hours, "Europe/Zurich", _at(now)) == _at(until)


def test_the_newest_firing_is_at_or_before_now() -> None:
    assert newest_firing("0 12 * * *", "UTC", NOW) == NOW
    assert newest_firing("0 12 * * *", "UTC", NOW - dt.timedelta(seconds=1)) == NOW - dt.timedelta(days=1)
    assert newest_firing("0 7 * * *", "America/New_York", NOW) == _at("2030-03-15 11:00")
