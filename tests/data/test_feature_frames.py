"""Features see only what is known before, and the matrix is the same in training and in serving."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from stackyard.data import features
from stackyard.data.features import FEW_ROWS, FeatureError, FeatureSchema
from stackyard.spec.models import ProjectSpec


def test_the_function_sees_the_columns_known_before_and_no_other(project: ProjectSpec, rows: pl.DataFrame) -> None:
    seen: list[list[str]] = []

    def spy(frame: pl.DataFrame) -> pl.DataFrame:
        seen.append(frame.columns)
        return frame.select("weight")

    planted = rows.with_columns(planted=pl.col("late"))
    features.compute(spy, planted.select(sorted(planted.columns)), project.data)
    assert seen == [["ordered", "weight", "items", "shop", "gift", "note"]]
    assert list(features.before(project.data)) == seen[0]


@pytest.mark.parametrize(
    ("function", "told"),
    [
        pytest.param(lambda frame: None, "must return a polars DataFrame, not NoneType", id="nothing"),
        pytest.param(lambda frame: frame.head(1), "got 40 rows and returned 1", id="fewer-rows"),
        pytest.param(lambda frame: frame.select(), "returned 0 rows of 0", id="no-features"),
        pytest.param(lambda frame: frame.select("ordered"), "ordered has type Datetime", id="time"),
        pytest.param(lambda frame: frame.select(x=pl.concat_list("items")), "x has type List", id="list"),
        pytest.param(
            lambda frame: frame.select(x=pl.col("weight") / 0), "x is NaN or infinite in 40 of 40", id="infinite"
        ),
        pytest.param(lambda frame: frame.select("late"), "late", id="known-after"),
    ],
)
def test_what_is_no_feature_is_refused(
    project: ProjectSpec, rows: pl.DataFrame, function: Callable[[pl.DataFrame], pl.DataFrame], told: str
) -> None:
    with pytest.raises((FeatureError, pl.exceptions.ColumnNotFoundError), match=told):
        features.compute(function, rows, project.data)


TRAINED = pl.DataFrame(
    {
        "shop": ["west", "north", None, "north"],
        "weight": [1.5, None, 3.0, -2.0],
        "gift": [True, False, None, True],
        "size": pl.Series(["s", "l", "s", "l"], dtype=pl.Enum(["s", "l"])),
    }
)


@pytest.mark.parametrize("times", [pytest.param(1, id="few"), pytest.param(FEW_ROWS, id="many")])
def test_values_are_encoded_by_what_was_seen_in_training(times: int) -> None:
    schema = FeatureSchema.model_validate_json(FeatureSchema.fit(TRAINED).model_dump_json())
    frame = pl.concat([TRAINED, TRAINED[:1].with_columns(shop=pl.lit("east"))] * times)
    nan = np.nan
    expected = np.array(
        [[1, 1.5, 1, 1], [0, nan, 0, 0], [nan, 3, nan, 1], [0, -2, 1, 0], [nan, 1.5, 1, 1]] * times, dtype=np.float32
    )
    found = schema.encode(frame)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)
    assert schema.names == ("shop", "weight", "gift", "size")


def test_a_column_of_nothing_but_nulls_is_missing_whatever_its_kind() -> None:
    schema = FeatureSchema.fit(TRAINED)
    found = schema.encode(pl.DataFrame({name: [None] for name in schema.names}))
    assert np.isnan(found).all()


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        pytest.param(TRAINED.drop("gift"), "lacks gift", id="missing"),
        pytest.param(TRAINED.with_columns(more=1), "adds more", id="unknown"),
        pytest.param(TRAINED.select(sorted(TRAINED.columns)), "another order", id="order"),
        pytest.param(TRAINED.with_columns(shop=1), "shop is a number here and was a category", id="kind"),
        pytest.param(TRAINED.with_columns(weight=1e300), "weight holds a number that float32", id="overflow"),
    ],
)
def test_a_frame_unlike_the_one_of_training_is_refused(frame: pl.DataFrame, told: str) -> None:
    with pytest.raises(FeatureError, match=told):
        FeatureSchema.fit(TRAINED).encode(frame)
