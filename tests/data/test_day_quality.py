"""Each rule finds its fault and says so in a sentence; what differs from training as days do is believed."""

from __future__ import annotations

import datetime as dt
import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackyard.data.quality import ColumnFacts, DayFacts, judge_day, judge_freshness
from stackyard.data.reference import Reference
from stackyard.data.sketches import Sketch, fit
from stackyard.spec.loop import QualitySpec
from stackyard.spec.models import TaskSpec

TASKS = {
    "binary": TaskSpec(type="binary", label="y"),
    "regression": TaskSpec(type="regression", label="y"),
    "multiclass": TaskSpec(type="multiclass", label="y", classes=("a", "b", "c")),
}
HEAT = fit(pl.Series([float(value % 40) for value in range(4_000)]))
SHOP = fit(pl.Series(["north", "south"] * 100))
REFERENCE = Reference(4_000, {"heat": HEAT, "shop": SHOP}, {}, (HEAT,), HEAT)
TODAY = dt.date(2026, 3, 1)


def column(**change: object) -> ColumnFacts:
    facts = {"missing": 0.0, "present": 900, "common": 0.05, "low": 5.0, "median": 20.0, "high": 35.0}
    return ColumnFacts(**(facts | change))  # type: ignore[arg-type]


def batch(
    day: dt.date = TODAY, *, heat: ColumnFacts | None = None, shop: ColumnFacts | None = None, **change
) -> DayFacts:
    columns = {"heat": heat or column(), "shop": shop or ColumnFacts(missing=0.0)}
    known = {"rows": 900, "labelled": 900, "label": 0.2, "expected": 0.25, "agreement": 8.0, "columns": columns}
    return DayFacts(day=day, **(known | change))


def days(**change: object) -> list[DayFacts]:
    return [batch(TODAY - dt.timedelta(days=back), heat=column(**change)) for back in range(1, 29)]


PAST = days()


@pytest.mark.parametrize(
    ("day", "code", "says"),
    [
        pytest.param(batch(lost=("shop",)), "schema", "shop is not in the batch", id="column-lost"),
        pytest.param(batch(wrong_types={"heat": "String"}), "schema", "type String", id="wrong-type"),
        pytest.param(batch(heat=column(missing=0.6)), "missing", "60%", id="missing"),
        pytest.param(batch(heat=column(beyond=0.3)), "outliers", "beyond its range", id="outliers"),
        pytest.param(batch(shop=ColumnFacts(missing=0, unseen=0.4)), "unseen", "never saw", id="unseen"),
        pytest.param(batch(duplicates=400), "duplicates", "400 of 900", id="duplicates"),
        pytest.param(batch(rows=100), "volume", "100 rows", id="few-rows"),
        pytest.param(batch(label_conflicts=500), "labels", "contradict", id="labels-conflict"),
        pytest.param(batch(labelled=100, wrong_labels=200), "labels", "none of the task's", id="labels-wrong"),
        pytest.param(batch(agreement=-9.0), "surprise", "turned round", id="labels-turned-round"),
        pytest.param(batch(label=0.6, agreement=-1.0), "surprise", "do not follow", id="labels-far"),
        pytest.param(batch(label=1.0, agreement=None), "surprise", "do not follow", id="labels-all-the-same"),
        pytest.param(batch(label=0.9), "surprise", "though they follow", id="labels-very-far"),
        pytest.param(batch(heat=column(common=0.99)), "stuck", "is it stuck", id="stuck"),
        pytest.param(batch(heat=column(low=90, median=100, high=110)), "shift", "unit", id="shifted"),
    ],
)
def test_each_fault_is_found_and_told(day: DayFacts, code: str, says: str) -> None:
    found = judge_day(day, REFERENCE, PAST, QualitySpec(), TASKS["binary"])
    assert [finding.code for finding in found] == [code]
    assert says in found[0].reason
    json.dumps(found[0].plain(), allow_nan=False)


@pytest.mark.parametrize(
    ("day", "past"),
    [
        pytest.param(batch(), PAST, id="a-day-like-others"),
        pytest.param(batch(label=0.7), PAST, id="a-storm-whose-labels-follow"),
        pytest.param(batch(labelled=60, label=1.0, agreement=None), PAST, id="few-labels"),
        pytest.param(batch(labelled=0, label=None, expected=None, agreement=None), PAST, id="before-labels"),
        pytest.param(batch(heat=column(missing=0.9)), days(missing=0.9), id="often-missing"),
        pytest.param(batch(heat=column(common=1.0)), days(common=0.9), id="often-the-same"),
        pytest.param(batch(heat=column(low=30, median=48, high=60)), PAST, id="a-warm-day"),
        pytest.param(batch(heat=column(low=90, median=100, high=110)), PAST[:3], id="no-history-to-have-shifted-from"),
        pytest.param(batch(rows=10, labelled=10), [], id="the-first-day"),
    ],
)
def test_what_days_do_is_believed(day: DayFacts, past: list[DayFacts]) -> None:
    assert judge_day(day, REFERENCE, past, QualitySpec(), TASKS["binary"]) == []


@pytest.mark.parametrize(
    ("kind", "label", "expected"),
    [
        pytest.param("regression", 40.0, 20.0, id="regression"),
        pytest.param("multiclass", (0.9, 0.05, 0.05), (0.3, 0.3, 0.4), id="multiclass"),
    ],
)
def test_every_task_can_be_surprised(kind: str, label: object, expected: object) -> None:
    day = batch(label=label, expected=expected, agreement=-0.5)
    found = judge_day(day, REFERENCE.plain(), PAST, QualitySpec(), TASKS[kind])
    assert [finding.code for finding in found] == ["surprise"]


def test_a_shift_lasts_until_days_are_as_before() -> None:
    shifted = batch(heat=column(low=90, median=100, high=110))
    before = (shifted, judge_day(shifted, REFERENCE, PAST, QualitySpec(), TASKS["binary"]))
    tomorrow = TODAY + dt.timedelta(days=1)
    near, mended = batch(tomorrow, heat=column(low=30, median=70, high=90)), batch(tomorrow)
    assert judge_day(near, REFERENCE, PAST, QualitySpec(), TASKS["binary"]) == []
    assert judge_day(near, REFERENCE, PAST, QualitySpec(), TASKS["binary"], before)[0].code == "shift"
    assert judge_day(mended, REFERENCE, PAST, QualitySpec(), TASKS["binary"], before) == []


@pytest.mark.parametrize(("newest", "stale"), [(20, False), (24, False), (19, True), (None, False)], ids=str)
def test_labels_that_stopped_are_told(newest: int | None, stale: bool) -> None:
    day = dt.date(2026, 2, newest) if newest else None
    found = judge_freshness(day, dt.date(2026, 2, 24), 86_400, QualitySpec())
    assert (found is not None) == stale


NUMBER = st.one_of(st.none(), st.floats(-1e6, 1e6))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2_000), st.floats(0, 1), NUMBER, st.floats(0, 1), st.floats(0, 1), st.integers(0, 2_000))
def test_whatever_a_day_holds_the_rules_answer(rows, missing, median, common, label, labelled) -> None:
    facts = ColumnFacts(missing=missing, present=rows, common=common, low=median, median=median, high=median)
    day = batch(heat=facts, rows=rows, labelled=labelled, label=label, agreement=None)
    for finding in judge_day(day, REFERENCE, PAST, QualitySpec(), TASKS["binary"]):
        json.dumps(finding.plain(), allow_nan=False)
    bare = Reference(0, {}, {}, (), Sketch(kind="number"))
    judge_day(day, bare, [], QualitySpec(), TASKS["binary"])
