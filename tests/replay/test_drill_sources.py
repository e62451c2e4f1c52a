"""A drill's past differs from the real one where it is poisoned, and nowhere else."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pytest

from stackyard.data import sources
from stackyard.replay.drills import Drill, DrillError, write
from stackyard.spec.models import ParquetSourceSpec, WindowSpec
from town import Town

WINDOW = WindowSpec(start=dt.date(2024, 1, 20), end=dt.date(2024, 2, 10))


@pytest.mark.parametrize(
    ("text", "column"),
    [("flipped-labels@2024-02", "late"), ("stuck-sensor@2024-02:x", "x"), ("other-unit@2024-02:x", "x")],
    ids=["labels", "sensor", "unit"],
)
def test_a_drill_poisons_its_days_and_its_column_alone(town: Town, tmp_path: Path, text: str, column: str) -> None:
    project, folder = town.project, town.spec.project_folder
    assert write(project, folder, Drill.of(text, project), WINDOW, tmp_path / "past") == 21 * 48
    source = ParquetSourceSpec(parquet=str(tmp_path / "past"))
    before = sources.read(project.data, folder, WINDOW)
    after = sources.read(project.data.model_copy(update={"source": source}), folder, WINDOW)
    assert after.drop(column).equals(before.drop(column))
    hit = pl.col("at").dt.month() == 2
    assert after.filter(~hit).equals(before.filter(~hit))
    assert not after.filter(hit).equals(before.filter(hit))


@pytest.mark.parametrize(
    "text",
    ["flipped", "nothing@2024-02", "stuck-sensor@2024-02", "stuck-sensor@2024-02:y", "flipped-labels@2024-13"],
    ids=["no-day", "no-drill", "no-column", "no-such-column", "no-such-month"],
)
def test_a_drill_that_there_is_not_is_one_sentence(town: Town, text: str) -> None:
    with pytest.raises(DrillError, match=text.split("@", maxsplit=1)[0]):
        Drill.of(text, town.project)
