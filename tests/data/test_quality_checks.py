"""Every broken promise of the spec is found, all in one table, and nothing that is well is reported."""

from __future__ import annotations

import io
import json

import polars as pl
import pytest
from rich.console import Console

from stackyard.data import checks
from stackyard.data.normal import normal, ordered
from stackyard.spec.models import ProjectSpec


def test_rows_as_the_spec_says_break_nothing(project: ProjectSpec, rows: pl.DataFrame) -> None:
    assert checks.violations(rows, project.data) == []


@pytest.mark.parametrize(
    ("spoiled", "column", "rule", "count", "example"),
    [
        pytest.param({"weight": pl.col("weight") - 1}, "weight", "at least 0", 2, "-1.0 at 2026-01-01 00:00", id="low"),
        pytest.param({"weight": pl.col("weight") + 990}, "weight", "at most 1000", 19, "1000.5 at", id="high"),
        pytest.param({"weight": pl.lit(float("nan"))}, "weight", "finite", 40, "NaN at", id="nan"),
        pytest.param({"minutes": pl.lit(float("inf"))}, "minutes", "finite", 40, "Infinity at", id="infinity"),
        pytest.param(
            {"shop": pl.col("shop").replace("west", "east")},
            "shop",
            "one of north, south, west",
            13,
            '"east" at',
            id="category",
        ),
        pytest.param(
            {"items": pl.when(pl.col("items") > 2).then("items")}, "items", "not null", 18, "(nothing) at", id="null"
        ),
        pytest.param(
            {"ordered": pl.when(pl.int_range(pl.len()) > 0).then("ordered")},
            "ordered",
            "not null",
            1,
            "row",
            id="null-time",
        ),
        pytest.param({"items": pl.col("items") + 0.5}, "items", "type integer", 40, "0.5 at", id="fraction"),
        pytest.param(
            {"items": pl.col("items").cast(pl.Float64)},
            "items",
            "type integer, found Float64",
            40,
            "0.0 at",
            id="float",
        ),
        pytest.param({"items": pl.lit("many")}, "items", "type integer", 40, '"many" at', id="text"),
        pytest.param({"gift": pl.lit(1)}, "gift", "type boolean, found Int", 40, "1 at", id="number-for-boolean"),
        pytest.param({"shop": pl.lit(7)}, "shop", "type string, found Int", 40, "7 at", id="number-for-string"),
        pytest.param(
            {"ordered": pl.col("ordered").dt.replace_time_zone(None)},
            "ordered",
            "needs its time zone",
            40,
            "row",
            id="no-zone",
        ),
        pytest.param(
            {"ordered": pl.col("ordered").dt.date()}, "ordered", "type datetime, found Date", 40, "row", id="date"
        ),
        pytest.param({"nots": pl.col("note")}, "nots", "not in the spec", 40, "", id="unknown"),
    ],
)
def test_each_broken_promise_is_counted_with_its_first_examples(
    project: ProjectSpec,
    rows: pl.DataFrame,
    spoiled: dict[str, pl.Expr],
    column: str,
    rule: str,
    count: int,
    example: str,
) -> None:
    frame = ordered(normal(rows.with_columns(**spoiled), project.data), project.data)
    [found] = checks.violations(frame, project.data)
    assert found.column == column
    assert rule in found.rule
    assert found.count == count
    assert len(found.examples) <= checks.EXAMPLES
    assert example in "".join(found.examples[:1])


def test_a_misspelled_column_is_missing_and_unknown_with_a_hint(project: ProjectSpec, rows: pl.DataFrame) -> None:
    found = checks.violations(rows.rename({"weight": "wieght"}), project.data)
    assert [(violation.column, violation.rule) for violation in found] == [
        ("weight", "is in the spec and not in the data"),
        ("wieght", "is in the data and not in the spec; did you mean weight?"),
    ]


def test_all_violations_stand_in_one_table_in_the_specs_order(project: ProjectSpec, rows: pl.DataFrame) -> None:
    frame = rows.drop("late").with_columns(
        weight=pl.col("weight") * -1000, items=pl.lit(None), shop=pl.lit("x"), minutes=pl.lit("y"), more=1
    )
    found = checks.violations(normal(frame, project.data), project.data)
    assert [violation.column for violation in found] == ["weight", "items", "shop", "minutes", "late", "more"]
    out = io.StringIO()
    Console(file=out, width=100).print(checks.table(found))
    assert all(violation.column in out.getvalue() for violation in found)
    json.dumps([vars(violation) for violation in found])


def test_checks_cannot_be_turned_off_from_outside(
    project: ProjectSpec, rows: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pandera.config import CONFIG

    monkeypatch.setattr(CONFIG, "validation_enabled", False)
    assert checks.violations(rows.with_columns(weight=pl.lit(-1.0)), project.data)
