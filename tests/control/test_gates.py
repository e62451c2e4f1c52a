"""What a candidate must show, check by check, and that the figures are the ones the field means."""

from __future__ import annotations

import datetime as dt
import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from stackyard.control import figures
from stackyard.control.figures import ALL, calibration_error, paired_bootstrap, statistic
from stackyard.control.gates import GateReport, judge
from stackyard.control.proof import CandidateFacts, HoldoutTable
from stackyard.spec.loop import GatesSpec, MonitoringSpec
from stackyard.spec.models import TaskSpec
from stackyard.store.documents import canonical, digest_of
from stackyard.training import measures

BINARY = TaskSpec(type="binary", label="late")
MULTICLASS = TaskSpec(type="multiclass", label="kind", classes=("a", "b", "c"))
REGRESSION = TaskSpec(type="regression", label="value")
FACTS = CandidateFacts(dt.date(2030, 1, 1), size=2000, seconds_per_row=0.002, parity=True)
SPEC, WATCHED = GatesSpec(), MonitoringSpec()


def _table(candidate: float = 0.5, champion: float = 0.5, rows: int = 2000, seed: int = 0, **more: Any) -> HoldoutTable:
    """Rows from 2030-01-01 on whose scores tell `candidate` and `champion` (0 to 1) of the truth."""
    random = np.random.default_rng(seed)
    labels = (random.random(rows) < 0.3).astype(np.float64)
    common = random.normal(0, 1, rows)
    scores = [
        0.3 + 0.03 * np.tanh(signal * (labels * 2 - 1) + 0.9 * common + 0.2 * random.normal(0, 1, rows))
        for signal in (candidate, champion)
    ]
    at = np.datetime64("2030-01-01", "us") + np.arange(rows) * np.timedelta64(60, "s")
    return HoldoutTable(at, labels, scores[0][:, None], scores[1][:, None], **more)


def _judged(table: HoldoutTable, spec: GatesSpec = SPEC, facts: CandidateFacts = FACTS, **watched: Any) -> GateReport:
    monitoring = WATCHED.model_copy(update=watched)
    return judge(spec, monitoring, BINARY, table, facts, np.random.default_rng(1))


def _failed(report: GateReport) -> set[str]:
    assert report.passed == (not any(check.passed is False for check in report.checks))
    return {check.name for check in report.checks if check.passed is False}


@pytest.mark.parametrize(
    ("table", "spec", "missing"),
    [
        pytest.param(_table(0.8, 0.5), {"require": "superior"}, set(), id="better"),
        pytest.param(_table(0.5, 0.8), {}, {"margin"}, id="worse"),
        pytest.param(_table(0.5, 0.5), {"margin": 0.02}, set(), id="equal-is-not-inferior"),
        pytest.param(_table(0.5, 0.5), {"require": "superior"}, {"margin"}, id="equal-is-not-superior"),
        pytest.param(_table(0.8, 0.5, rows=400), {}, {"rows"}, id="too-few-rows"),
        pytest.param(_table(0.8, 0.5), {"floors": {"auc": 0.99}}, {"floor auc"}, id="below-a-floor"),
        pytest.param(_table(0.8, 0.5), {"floors": {"log_loss": 0.01}}, {"floor log_loss"}, id="above-a-ceiling"),
        pytest.param(_table(0.8, 0.5), {"calibration": 0.001}, {"calibration"}, id="uncalibrated"),
        pytest.param(_table(0.8, 0.5), {"latency": "1ms"}, {"latency"}, id="slow"),
        pytest.param(_table(0.8, 0.5), {"size": "1KiB"}, {"size"}, id="large"),
        pytest.param(_table(0.8, 0.5), {"kpi_drop": 0.1}, {"kpi"}, id="kpi-without-a-number"),
        pytest.param(_table(0.8, 0.5), {"backtest": 2}, {"backtest"}, id="backtest-without-a-span"),
    ],
)
def test_a_failed_check_is_the_one_that_lacks_something(
    table: HoldoutTable, spec: dict[str, Any], missing: set[str]
) -> None:
    report = _judged(table, GatesSpec(**spec))
    assert _failed(report) == missing
    assert all(check.reason for check in report.checks)


@pytest.mark.parametrize(
    ("facts", "spec", "missing"),
    [
        pytest.param({"parity": False}, {}, {"parity"}, id="other-golden-answers"),
        pytest.param({"parity": None}, {}, {"parity"}, id="golden-answers-not-tried"),
        pytest.param({"kpi": (1.0, 2.0)}, {"kpi_drop": 0.5}, {"kpi"}, id="kpi-fell"),
        pytest.param({"kpi": (1.8, 2.0)}, {"kpi_drop": 0.5}, set(), id="kpi-within-its-drop"),
        pytest.param({"kpi": (1.0, 2.0)}, {}, set(), id="kpi-only-reported"),
        pytest.param({"backtest": (0.01, -0.2)}, {"backtest": 2}, {"backtest"}, id="worse-in-earlier-spans"),
        pytest.param({"backtest": (0.01, -0.005)}, {"backtest": 2}, set(), id="as-good-in-earlier-spans"),
        pytest.param({"refit": {"auc": 0.4}}, {"floors": {"auc": 0.5}}, {"refit floor auc"}, id="refit-broke"),
        pytest.param({"champion_data_end": None}, {}, {"rows"}, id="champion-of-unknown-rows"),
    ],
)
def test_what_the_run_tells_of_its_candidate_is_judged(
    facts: dict[str, Any], spec: dict[str, Any], missing: set[str]
) -> None:
    assert _failed(_judged(_table(0.8, 0.5), GatesSpec(**spec), replace(FACTS, **facts))) == missing


def test_rows_that_taught_the_champion_are_left_out_and_too_few_rows_are_told() -> None:
    table, spec = _table(0.8, 0.5, rows=4000), GatesSpec(rows=500)
    some = _judged(table, spec, replace(FACTS, champion_data_end=dt.date(2030, 1, 2)))
    assert (some.passed, some.figures["compared"], some.figures["rows"]) == (True, 4000 - 1440, 4000)
    most = _judged(table, spec, replace(FACTS, champion_data_end=dt.date(2030, 1, 3)))
    few = _judged(table, GatesSpec(rows=1500), replace(FACTS, champion_data_end=dt.date(2030, 1, 3)))
    assert (most.passed, most.figures["compared"]) == (True, 4000 - 2880)
    assert _failed(few) == {"rows"}
    assert "1120 held-out rows are new to both models, 1500 are asked for" in few.reason
    assert "rows before 2030-01-03 taught the champion" in few.reason


def test_a_champion_that_was_not_asked_fails_with_its_reason() -> None:
    table = replace(_table(), champion=None)
    report = _judged(table, facts=replace(FACTS, problem="bundle abc cannot be loaded: altered"))
    assert _failed(report) == {"champion"}
    assert "altered" in report.reason


def test_the_worst_slice_decides_and_small_slices_are_only_reported() -> None:
    table = _table(0.8, 0.5, rows=6000)
    carrier = np.where(np.arange(6000) % 10 == 0, "X", np.where(np.arange(6000) % 100 == 1, "tiny", "Y"))
    scores = table.candidate.copy()
    scores[carrier == "X"] = 0.6 - scores[carrier == "X"]  # the wrong way round for one carrier
    scores[carrier == "tiny"] = 0.6 - scores[carrier == "tiny"]
    bad = replace(table, candidate=scores, slices={"carrier": carrier})
    report = _judged(bad)
    assert _failed(report) == {"worst slice"}
    assert "carrier X (600 rows)" in report.reason
    entries = report.figures["slices"]["carrier"]
    assert (entries["tiny"]["judged"], entries["X"]["judged"], entries["tiny"]["rows"]) == (False, True, 60)
    assert _failed(_judged(bad, slice_rows=1000)) == set()
    assert _failed(_judged(bad, GatesSpec(slice_drop=0.9, slice_gap=0.2))) == {"gap of carrier"}
    none = next(check for check in _judged(bad, slice_rows=10_000).checks if check.name == "worst slice")
    assert none.passed is None


def test_a_slice_that_lost_by_chance_does_not_fail() -> None:
    """Equal models, forty small slices: one of them always differs by more than it may, and none for a reason."""
    table = _table(0.5, 0.5, rows=4000)
    report = _judged(
        replace(table, slices={"gate": (np.arange(4000) % 40).astype(str)}),
        GatesSpec(slice_drop=0.01, margin=0.05),
        slice_rows=50,
    )
    worst = next(check for check in report.checks if check.name == "worst slice")
    assert (worst.passed, worst.reason.endswith("which chance explains")) == (True, True)
    assert worst.value is not None
    assert worst.value < -0.01


def test_one_class_alone_gives_no_verdict_for_the_candidate() -> None:
    table = _table(0.8, 0.5)
    assert _failed(_judged(replace(table, labels=np.zeros(2000)))) >= {"margin"}


def test_a_report_is_json_with_a_digest_and_the_same_for_the_same_draws() -> None:
    first, second = (_judged(_table(0.8, 0.5, rows=1000)).plain() for _ in range(2))
    assert digest_of(first) == digest_of(second)
    assert json.loads(canonical(first))["kind"] == "gate-report"
    short = _judged(_table(rows=0)).plain()
    assert json.loads(canonical(short))["passed"] is False


def test_a_thousand_resamples_of_thirteen_thousand_rows_take_less_than_two_seconds() -> None:
    table = _table(0.6, 0.5, rows=13_000)
    started = time.process_time()
    assert _judged(table).passed
    assert time.process_time() - started < 2


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Of 60 tables whose models are equally good, the one-sided 95 % end is above 0 in about 3; 9 is beyond 99.9 %."""
    wrong = 0
    for seed in range(60):
        table = _table(0.5, 0.5, rows=800, seed=seed)
        assert table.champion is not None
        pair = [statistic(BINARY, "auc", table.labels, outputs) for outputs in (table.candidate, table.champion)]
        draws = paired_bootstrap(pair[0], pair[1], 800, np.random.default_rng(seed), resamples=200)
        wrong += np.quantile(draws, 0.05) > 0
    assert wrong <= 9


_ROUNDED = st.integers(0, 20).map(lambda value: value / 20)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), _ROUNDED), min_size=2, max_size=60))
def test_binary_figures_are_scikit_learns(rows: list[tuple[bool, float]]) -> None:
    labels, scores = np.array([row[0] for row in rows], dtype=float), np.array([row[1] for row in rows])
    found = {
        name: statistic(BINARY, name, labels, scores[:, None])(ALL)
        for name in ("auc", "accuracy", "precision", "recall", "f1", "log_loss")
    }
    expected = measures.measure(BINARY, labels, scores)
    if "auc" not in expected:
        assert np.isnan(found.pop("auc"))
    assert found == pytest.approx({name: expected[name] for name in found}, abs=1e-9)


def test_multiclass_and_regression_figures_are_scikit_learns() -> None:
    random = np.random.default_rng(5)
    labels, outputs = random.integers(0, 3, 300).astype(float), random.dirichlet((1, 1, 1), 300)
    found = {name: statistic(MULTICLASS, name, labels, outputs)(ALL) for name in ("macro_f1", "accuracy", "log_loss")}
    assert found == pytest.approx(
        {
            "macro_f1": metrics.f1_score(labels, outputs.argmax(axis=1), average="macro"),
            "accuracy": metrics.accuracy_score(labels, outputs.argmax(axis=1)),
            "log_loss": metrics.log_loss(labels, outputs, labels=[0, 1, 2]),
        }
    )
    values, told = random.normal(0, 1, 300), random.normal(0, 1, 300)
    found = {name: statistic(REGRESSION, name, values, told[:, None])(ALL) for name in ("rmse", "mae", "r2")}
    assert found == pytest.approx(
        {
            "rmse": metrics.root_mean_squared_error(values, told),
            "mae": metrics.mean_absolute_error(values, told),
            "r2": metrics.r2_score(values, told),
        }
    )


@pytest.mark.parametrize(
    ("task", "labels", "outputs"),
    [
        pytest.param(MULTICLASS, [0, 1, 2] * 200, np.eye(3)[[0, 1, 2] * 200] * 0.8 + 0.2 / 3, id="multiclass"),
        pytest.param(REGRESSION, list(range(600)), np.arange(600)[:, None] + 0.5, id="regression"),
    ],
)
def test_a_loss_and_classes_are_judged_the_right_way_up(task: TaskSpec, labels: list[int], outputs: Any) -> None:
    worse = np.roll(outputs, 1, axis=0) if task.type == "multiclass" else outputs + 3
    at = np.datetime64("2030-01-01", "us") + np.arange(600) * np.timedelta64(60, "s")
    table = HoldoutTable(at, np.array(labels, dtype=float), outputs, worse)
    spec = GatesSpec(require="superior", calibration=0.5)
    assert judge(spec, WATCHED, task, table, FACTS, np.random.default_rng(0)).passed
    turned = replace(table, candidate=worse, champion=np.asarray(outputs))
    assert not judge(spec, WATCHED, task, turned, FACTS, np.random.default_rng(0)).passed


@pytest.mark.parametrize(
    ("old", "new", "passed"),
    [
        pytest.param((0.5, 0.9), (0.5, 0.3), False, id="a-champion-that-is-worse-only-on-rows-that-taught-it"),
        pytest.param((0.9, 0.3), (0.5, 0.9), True, id="a-champion-that-is-better-only-on-rows-that-taught-it"),
    ],
)
def test_the_champions_calibration_is_that_of_rows_new_to_both(
    old: tuple[float, float], new: tuple[float, float], passed: bool
) -> None:
    """Labels are true in 3 of 10 rows; `old` and `new` are what candidate and champion tell of either half."""
    rows = 2880
    at = np.datetime64("2030-01-01", "us") + np.arange(rows) * np.timedelta64(60, "s")
    labels = (np.arange(rows) % 10 < 3).astype(np.float64)
    candidate, champion = (np.where(np.arange(rows) < 1440, old[i], new[i])[:, None] for i in (0, 1))
    facts = replace(FACTS, champion_data_end=dt.date(2030, 1, 2))
    report = _judged(HoldoutTable(at, labels, candidate, champion), GatesSpec(calibration=0.05, rows=500), facts)
    assert ("calibration" not in _failed(report)) is passed
    assert report.figures["champion_calibration"] == pytest.approx(abs(new[1] - 0.3))


def test_the_calibration_error_of_a_known_table_is_what_the_formula_says() -> None:
    labels, outputs = np.array([0.0, 0, 1, 1]), np.array([0.1, 0.1, 0.1, 0.9])[:, None]
    assert calibration_error(BINARY, labels, outputs) == pytest.approx((3 * abs(1 / 3 - 0.1) + abs(1 - 0.9)) / 4)
    assert np.isnan(calibration_error(REGRESSION, labels, outputs))
    assert figures.CALIBRATION_BINS == 15


def test_the_table_that_a_run_stores_is_read_back_with_its_slices() -> None:
    frame = pl.DataFrame(
        {
            "time": pl.Series([dt.datetime(2030, 1, 1, tzinfo=dt.UTC), dt.datetime(2030, 1, 2, tzinfo=dt.UTC)]),
            "label": [1.0, 0.0],
            "candidate": [[0.9], [0.2]],
            "champion": [[0.8], [0.3]],
            "slice:carrier": ["A", None],
        }
    )
    table = HoldoutTable.of(frame)
    assert table.candidate.tolist() == [[0.9], [0.2]]
    assert table.champion is not None
    assert list(table.slices["carrier"]) == ["A", "(missing)"]
    assert table.time[1] == np.datetime64("2030-01-02", "us")
    silent = frame.with_columns(champion=pl.Series([None, None], dtype=pl.List(pl.Float64)))
    assert HoldoutTable.of(silent).champion is None
