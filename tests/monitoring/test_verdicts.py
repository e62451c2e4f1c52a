"""Verdicts are made of sound days, alarm by the better end of an interval, and say when there is too little to say."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackyard.data.reference import Reference
from stackyard.monitoring.days import DaySummary, summarize
from stackyard.monitoring.verdicts import Verdicts, days_needed, judge
from stackyard.spec.loop import MonitoringSpec
from stackyard.spec.models import TaskSpec
from stackyard.training import reference

TASK = TaskSpec(type="binary", label="late")
SPEC = MonitoringSpec(floors={"auc": 0.65}, slices=("place",))
FIRST = dt.date(2026, 1, 1)
NOW = dt.datetime(2026, 1, 22, 6, tzinfo=dt.UTC)
RELEASE = {"auc": 0.8}


def rows(seed: int, many: int = 300, skill: float = 2.0, shift: float = 0.0, bad: str = "") -> pl.DataFrame:
    """Answers whose labels follow them as `skill` says; in the place `bad` not at all."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, many)
    place = rng.choice(["north", "south", "west"], many, p=[0.55, 0.43, 0.02])
    follows = np.where(place == bad, 0.0, skill)
    label = rng.random(many) < 1 / (1 + np.exp(-follows * x + 1))
    outputs = 1 / (1 + np.exp(-2 * x + 1))
    return pl.DataFrame({"x": x + shift, "place": place, "label": label.astype(float)}).with_columns(
        pl.concat_list(pl.Series("outputs", outputs))
    )


KNOWN = rows(999, 20_000)
ANSWERS = KNOWN["outputs"].list.first().to_numpy()
REFERENCE = Reference.load(
    reference.describe(KNOWN.select("x", "place"), KNOWN.select("x"), ANSWERS, KNOWN["label"].to_numpy())
)


def day(place: int, *, arm: str = "champion", bundle: str = "b", labelled: bool = True, **kind: object) -> DaySummary:
    frame = rows(place, **kind)  # type: ignore[arg-type]
    frame = frame if labelled else frame.with_columns(pl.lit(None, pl.Float64).alias("label"))
    known = {"model": "m", "day": FIRST + dt.timedelta(days=place), "bundle": bundle, "arm": arm}
    return summarize(REFERENCE, TASK, frame, frame.select("x"), SPEC.slices, **known)


def judged(days: Sequence[DaySummary], **more: object) -> Verdicts:
    found = judge(days, REFERENCE.plain(), RELEASE, TASK, SPEC, NOW, **more)  # type: ignore[arg-type]
    json.dumps(found.plain(), allow_nan=False)
    return found


SOUND = [day(place) for place in range(21)]
WORSE = [day(place, skill=0.3, shift=1.5 if place > 3 else 0) for place in range(21)]


def test_a_sound_model_has_no_alarm() -> None:
    found = judged(SOUND)
    assert found.alarms == ()
    assert {verdict.state for verdict in (found.drift, found.predictions, found.labels, found.performance)} == {"ok"}
    assert "auc" in found.performance.reason
    assert found.performance.rows == 2100


def test_an_alarm_names_since_when_the_features_that_moved_and_the_worst_slice() -> None:
    found = judged(WORSE)
    assert {"drift", "performance"} <= set(found.alarms)
    assert found.performance.since == FIRST
    assert found.drift.since == FIRST
    assert "x (" in found.performance.reason and "worst slice: place" in found.performance.reason


@pytest.mark.parametrize(
    "days",
    [
        pytest.param([], id="no-day"),
        pytest.param(WORSE[-1:], id="one-day"),
        pytest.param([day(place, labelled=False) for place in range(3)], id="no-label"),
        pytest.param([DaySummary(model="m", day=FIRST, bundle="b", arm="champion")], id="an-empty-day"),
    ],
)
def test_too_little_is_a_verdict(days: list[DaySummary]) -> None:
    found = judged(days)
    assert (found.performance.state, found.drift.state, found.labels.state) == ("not_enough_data",) * 3
    assert found.alarms == ()
    assert "500" in found.performance.reason


def test_a_small_slice_is_reported_and_never_judged() -> None:
    slices = {one.value: one for one in judged(WORSE).slices}
    assert (slices["north"].state, slices["west"].state) == ("alarm", "not_enough_data")
    assert slices["west"].figures["accuracy"]["value"] is not None
    assert "never" not in slices["west"].reason and "not judged" in slices["west"].reason


def test_a_bad_slice_alarms_alone() -> None:
    found = judged([day(place, skill=2.5, bad="south") for place in range(21)])
    assert "slice place south" in found.alarms and "slice place north" not in found.alarms


def test_quarantined_days_judge_nothing() -> None:
    poisoned = {one.day for one in WORSE[14:]}
    days = [*SOUND[:14], *WORSE[14:]]
    assert "performance" in judged(days).alarms
    assert judged(days, quarantined=poisoned).alarms == ()


def test_today_is_not_over_and_judges_nothing() -> None:
    assert judged([*SOUND, day(21, skill=0, shift=5)]).plain() == judged(SOUND).plain()


def test_a_shadow_counts_for_its_own_bundle_only() -> None:
    shadows = [day(place, arm="shadow", bundle="new", skill=0.2) for place in range(21)]
    days = [*SOUND, *shadows]
    assert judged(days).alarms == ()
    assert judged(days, bundle="b").performance.state == "ok"
    assert judged(days, bundle="new").performance.state == "alarm"
    assert judged(days).drift.windows == judged(SOUND).drift.windows


def test_a_fall_is_told_only_when_even_the_better_end_lies_below() -> None:
    few = judge(SOUND[-2:], REFERENCE, {"auc": 0.99}, TASK, MonitoringSpec(rows=100, drop=0.01), NOW)
    close = judge(SOUND, REFERENCE, {"auc": 0.86}, TASK, MonitoringSpec(rows=100, drop=0.01), NOW)
    assert (few.performance.state, close.performance.state) == ("alarm", "ok")


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(21)))
def test_the_order_of_days_does_not_matter(order) -> None:
    assert judged([WORSE[place] for place in order]).alarms == judged(WORSE).alarms


def test_a_verdict_says_how_many_days_it_needs() -> None:
    assert days_needed(SPEC) == 22


def test_losses_have_ceilings() -> None:
    spec = MonitoringSpec(floors={"log_loss": 0.01, "brier": 0.9})
    found = judge(SOUND, REFERENCE, {}, TASK, spec, NOW).performance
    assert [one.broken for one in found.judged] == [True, False]
    assert "ceiling" in found.reason
