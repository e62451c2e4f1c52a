"""Mistakes in parameters, labels and splits are found before a cluster starts."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from stackyard.spec.models import SplitSpec, TaskSpec
from stackyard.training import recipe
from stackyard.training.recipe import RecipeError


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param({"max_dept": 3}, "max_dept is not a parameter of XGBoost", id="misspelt"),
        pytest.param({"nthread": 4}, "nthread is set by the platform", id="ours"),
        pytest.param({"max_depth": -3}, "max_depth", id="out-of-bounds"),
        pytest.param({"eta": "fast"}, "eta", id="no-number"),
        pytest.param({"objective": "reg:squarederror"}, "is not for binary", id="other-task"),
        pytest.param({"early_stopping_rounds": 0}, "is not a number of rounds", id="no-patience"),
    ],
)
def test_a_wrong_parameter_is_named(runs: Any, given: dict[str, Any], told: str) -> None:
    project = runs.project(parameters=given)
    with pytest.raises(RecipeError, match=told):
        assert recipe.parameters(project) and recipe.patience(project)


BINARY = TaskSpec(type="binary", label="y")
CLASSES = TaskSpec(type="multiclass", label="y", classes=("b", "a"))
NUMBER = TaskSpec(type="regression", label="y")


@pytest.mark.parametrize(
    ("task", "values", "expected"),
    [
        pytest.param(BINARY, [True, False], [1, 0], id="booleans"),
        pytest.param(BINARY, [1, 0], [1, 0], id="integers"),
        pytest.param(CLASSES, ["a", "b", "b"], [1, 0, 0], id="classes-in-the-spec's-order"),
        pytest.param(NUMBER, [1.5, -2.0], [1.5, -2.0], id="values"),
    ],
)
def test_labels_become_numbers(task: TaskSpec, values: list[Any], expected: list[float]) -> None:
    assert recipe.labels(task, pl.Series("y", values)).tolist() == expected


@pytest.mark.parametrize(
    ("task", "values", "told"),
    [
        pytest.param(BINARY, [True, None], "1 of 2 rows have no 'y'", id="missing"),
        pytest.param(BINARY, [1, 2], "boolean or 0 and 1", id="not-binary"),
        pytest.param(CLASSES, ["a", "z"], "also holds z", id="unknown-class"),
        pytest.param(NUMBER, ["x"], "is not a number", id="text"),
        pytest.param(NUMBER, [float("inf")], "not finite", id="infinite"),
    ],
)
def test_a_label_no_model_can_learn_is_named(task: TaskSpec, values: list[Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        recipe.labels(task, pl.Series("y", values))


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        pytest.param(range(10), (8, 9), id="distinct"),
        pytest.param([0, 1, 2, 3, 4, 5, 6, 7, 7, 9], (7, 9), id="an-instant-stays-together"),
    ],
)
def test_rows_are_split_by_time(times: Any, expected: tuple[int, int]) -> None:
    assert recipe.boundaries(np.asarray(list(times)), SplitSpec()) == expected


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_too_few_rows_are_refused(rows: int) -> None:
    with pytest.raises(RecipeError, match="too few"):
        recipe.boundaries(np.arange(rows), SplitSpec())
