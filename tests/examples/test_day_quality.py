"""A year of real departures: storms, heat and calm are believed, and a poisoned month is found on its first day."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import xgboost

from stackyard.data import code, sources
from stackyard.data.features import FeatureSchema
from stackyard.data.quality import DayFacts, QualityFinding, facts, judge_day
from stackyard.data.reference import Reference
from stackyard.spec.loop import QualitySpec
from stackyard.spec.models import ProjectSpec, WindowSpec
from stackyard.spec.stack import load
from stackyard.training import reference

ROOT = Path(__file__).resolve().parents[2]
SPRING = dt.date(2013, 3, 1)
Poison = Callable[[pl.DataFrame], pl.DataFrame]


@dataclass
class Year:
    """Every day's batch as it would be logged, and what is found in it."""

    project: ProjectSpec
    reference: Reference
    days: dict[dt.date, pl.DataFrame]

    def __post_init__(self) -> None:
        self.sound = {day: self.facts(day) for day in self.days}

    def facts(self, day: dt.date, poison: Poison | None = None) -> DayFacts:
        frame = self.days[day]
        return facts(day, poison(frame) if poison else frame, self.project.data, self.project.task, self.reference)

    def live(
        self, start: dt.date, days: int, past: Sequence[DayFacts], poison: Poison | None = None
    ) -> dict[dt.date, list[QualityFinding]]:
        """The findings of each day, one after the other; what is quarantined enters no history."""
        history, found, previous = list(past), {}, None
        for day in (start + dt.timedelta(days=place) for place in range(days)):
            known = self.facts(day, poison) if poison else self.sound[day]
            found[day] = judge_day(known, self.reference, history, QualitySpec(), self.project.task, previous)
            previous = (known, found[day])
            if not found[day]:
                history.append(known)
        return found


@pytest.fixture(scope="module")
def year() -> Year:
    """2013, with the answers of a model of January and February."""
    project = load(ROOT / "stacks" / "local.yaml").project
    folder = ROOT / "examples" / "flights"
    window = WindowSpec(start=dt.date(2013, 1, 1), end=dt.date(2014, 1, 1))
    rows = sources.read(project.data, folder, window).with_columns(pl.col("late").cast(pl.Float64).alias("label"))
    features = code.load(folder, project.features.function)(rows)
    winter = (rows["scheduled_departure"].dt.date() < SPRING).to_numpy()
    schema = FeatureSchema.fit(features.filter(winter))
    matrix, labels = schema.encode(features), rows["label"].to_numpy()
    parameters = {"objective": "binary:logistic", "nthread": 1, **project.training.parameters}
    model = xgboost.train(parameters, xgboost.DMatrix(matrix[winter], labels[winter]), project.training.rounds)
    answers = model.inplace_predict(matrix).astype(np.float64)
    known = Reference.load(
        reference.describe(rows.filter(winter), features.filter(winter), answers[winter], labels[winter])
    )
    rows = rows.with_columns(pl.concat_list(pl.Series("outputs", answers)))
    days = rows.group_by(pl.col("scheduled_departure").dt.date().alias("day"), maintain_order=True)
    return Year(project, known, {key[0]: part for key, part in days if isinstance(key[0], dt.date)})


def test_ten_months_of_real_days_are_believed_but_for_the_last(year: Year) -> None:
    """The weather of 31 December is missing in the source; no other day of 306 is doubted."""
    found = year.live(SPRING, 306, [])
    doubted = {day: {finding.code for finding in findings} for day, findings in found.items() if findings}
    assert doubted == {dt.date(2013, 12, 31): {"missing"}}


POISONS: dict[str, Poison] = {
    "labels-turned-round": lambda frame: frame.with_columns((1 - pl.col("label")).alias("label")),
    "labels-all-true": lambda frame: frame.with_columns(pl.lit(1.0).alias("label")),
    "temperature-in-celsius": lambda frame: frame.with_columns((pl.col("temperature") - 32) * 5 / 9),
    "temperature-stuck": lambda frame: frame.with_columns(pl.col("temperature").drop_nulls().first()),
    "pressure-stuck": lambda frame: frame.with_columns(pl.lit(1013.0).alias("pressure")),
    "wind-lost": lambda frame: frame.with_columns(pl.lit(None, pl.Float64).alias("wind_speed")),
    "rows-twice": lambda frame: pl.concat([frame, frame]),
    "rows-few": lambda frame: frame.head(100),
    "carriers-renamed": lambda frame: frame.with_columns(pl.col("carrier") + "!"),
    "column-gone": lambda frame: frame.drop("humidity"),
    "column-of-text": lambda frame: frame.with_columns(pl.col("distance").cast(pl.String)),
}


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
@pytest.mark.parametrize("month", [4, 8, 11], ids=["spring", "summer", "autumn"])
def test_a_poisoned_month_is_found_on_its_first_day_and_stays_found(year: Year, month: int, poison: Poison) -> None:
    start = dt.date(2013, month, 1)
    past = [year.sound[start - dt.timedelta(days=back)] for back in range(28, 0, -1)]
    found = year.live(start, 14, past, poison)
    assert all(found.values()), {str(day): findings for day, findings in found.items() if not findings}


def test_a_mended_unit_is_believed_again(year: Year) -> None:
    start = dt.date(2013, 8, 1)
    past = [year.sound[start - dt.timedelta(days=back)] for back in range(28, 0, -1)]
    poisoned = year.facts(start, POISONS["temperature-in-celsius"])
    findings = judge_day(poisoned, year.reference, past, QualitySpec(), year.project.task)
    mended = year.sound[start + dt.timedelta(days=1)]
    assert {finding.code for finding in findings} == {"shift"}
    assert judge_day(mended, year.reference, past, QualitySpec(), year.project.task, (poisoned, findings)) == []
