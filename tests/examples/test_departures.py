"""The example people copy first: real data, honest features, and a model worth serving."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import xgboost

from stackyard.data import checks, code, features, sources
from stackyard.spec.models import ProjectSpec, WindowSpec
from stackyard.spec.stack import load

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder() -> Path:
    return ROOT / "examples" / "flights"


@pytest.fixture(scope="module")
def project() -> ProjectSpec:
    return load(ROOT / "stacks" / "local.yaml").project


@pytest.fixture(scope="module")
def build(project: ProjectSpec, folder: Path) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return code.load(folder, project.features.function)


@pytest.fixture(scope="module")
def winter(project: ProjectSpec, folder: Path) -> pl.DataFrame:
    """January and February."""
    return sources.read(project.data, folder, None)


@pytest.fixture(scope="module")
def year(project: ProjectSpec, folder: Path) -> pl.DataFrame:
    return sources.read(project.data, folder, WindowSpec(start=dt.date(2013, 1, 1), end=dt.date(2014, 1, 2)))


def test_the_whole_year_is_as_the_spec_says(project: ProjectSpec, year: pl.DataFrame) -> None:
    assert year.height == 336_776
    assert checks.violations(year, project.data) == []
    assert year["scheduled_departure"].is_sorted()


def test_a_departure_is_late_past_fifteen_minutes_or_when_it_never_arrived(year: pl.DataFrame) -> None:
    delay = year["arrival_delay"]
    assert year["late"].equals((delay > 15).fill_null(value=True), check_names=False)
    cancelled = year.filter(pl.col("departure_clock").is_null())
    assert cancelled.height == 8_255
    assert cancelled["late"].all()


def test_scheduled_hours_are_utc_on_both_sides_of_summer_time(year: pl.DataFrame) -> None:
    local = year["scheduled_departure"].dt.convert_time_zone("America/New_York")
    # Nothing is scheduled at night: a time zone that were off by an hour for half the year would show here.
    assert set(local.dt.hour().unique()) == {1, *range(5, 24)}
    assert (local.dt.hour() == 1).sum() == 1


def test_the_tail_number_would_give_the_label_away_and_is_known_after(project: ProjectSpec, year: pl.DataFrame) -> None:
    assert year.filter(pl.col("tail_number").is_null())["late"].all()
    assert all(project.data.columns[name].known == "after" for name in ("tail_number", "plane_built", "plane_seats"))


def test_features_stay_bit_equal_when_everything_known_later_changes(
    project: ProjectSpec, winter: pl.DataFrame, build: Callable[[pl.DataFrame], pl.DataFrame]
) -> None:
    later = [name for name, column in project.data.columns.items() if column.known == "after"]
    assert later == [
        "tail_number", "plane_built", "plane_seats", "departure_clock", "departure_delay", "arrival_clock",
        "arrival_delay", "air_time", "late",
    ]  # fmt: skip
    expected = features.compute(build, winter, project.data)
    changed = winter.with_columns(*(_other(winter[name]) for name in later), winter["late"].alias("planted"))
    assert not any((changed[name].eq_missing(winter[name])).any() for name in later)
    for frame in (changed, changed.with_columns(pl.lit(None).alias(name) for name in later), changed.drop(later)):
        found = features.compute(build, frame, project.data)
        assert found.equals(expected)
        assert _bits(found) == _bits(expected)


def _other(series: pl.Series) -> pl.Series:
    """Every value changed; what was missing is there."""
    if series.dtype == pl.Boolean:
        return ~series
    if series.dtype == pl.String:
        return (series + "x").fill_null("x")
    return (series + 1).fill_null(0)


def _bits(frame: pl.DataFrame) -> bytes:
    return features.FeatureSchema.fit(frame).encode(frame).tobytes()


def test_a_rows_features_do_not_depend_on_other_rows_or_their_order(
    project: ProjectSpec, winter: pl.DataFrame, build: Callable[[pl.DataFrame], pl.DataFrame]
) -> None:
    rows = winter.gather_every(500)
    together = features.compute(build, rows, project.data)
    order = np.random.default_rng(0).permutation(rows.height)
    assert features.compute(build, rows[order], project.data).equals(together[order])
    alone = pl.concat([features.compute(build, rows[place], project.data) for place in range(rows.height)])
    assert alone.equals(together)


def test_requests_give_the_features_that_training_had(
    project: ProjectSpec, winter: pl.DataFrame, build: Callable[[pl.DataFrame], pl.DataFrame]
) -> None:
    columns = features.before(project.data)
    rows = winter.gather_every(300)
    schema = features.FeatureSchema.fit(features.compute(build, winter, project.data))
    for part in (rows, rows.head(3)):
        asked = features.request_frame(features.rows(part, columns), columns)
        found = schema.encode(features.compute(build, asked, project.data))
        expected = schema.encode(features.compute(build, part, project.data))
        assert found.tobytes() == expected.tobytes()


def test_one_row_of_features_costs_less_than_a_millisecond(
    project: ProjectSpec, winter: pl.DataFrame, build: Callable[[pl.DataFrame], pl.DataFrame]
) -> None:
    row, took = winter.head(1).select(list(features.before(project.data))), []
    for _ in range(200):
        start = time.perf_counter()
        features.compute(build, row, project.data)
        took.append(time.perf_counter() - start)
    assert min(took) < 1e-3


def test_trained_on_january_and_february_it_ranks_march_at_an_auc_of_0_71(
    project: ProjectSpec, folder: Path, winter: pl.DataFrame, build: Callable[[pl.DataFrame], pl.DataFrame]
) -> None:
    march = sources.read(project.data, folder, WindowSpec(start=dt.date(2013, 3, 1), end=dt.date(2013, 4, 1)))
    split = project.training.split
    rows = winter.head(round(winter.height * (1 - split.validation - split.test)))
    built = features.compute(build, rows, project.data)
    schema = features.FeatureSchema.fit(built)
    model = xgboost.train(
        {"objective": "binary:logistic", "nthread": 1, "seed": project.training.seed, **project.training.parameters},
        xgboost.DMatrix(schema.encode(built), rows["late"].to_numpy()),
        project.training.rounds,
    )
    scores = model.predict(xgboost.DMatrix(schema.encode(features.compute(build, march, project.data))))
    assert _auc(march["late"].to_numpy(), scores) > 0.71


def _auc(truth: np.ndarray, scores: np.ndarray) -> float:
    ranks = pl.Series(scores).rank("average").to_numpy()
    positives = int(truth.sum())
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * (truth.size - positives)))
