"""Scores that add up give scikit-learn's figures, and their intervals hold the truth as often as they say."""

import json

import numpy as np
import polars as pl
import pytest

from stackyard.monitoring import intervals, scores
from stackyard.spec.models import TaskSpec
from stackyard.training.measures import measure

TASKS = {
    "binary": TaskSpec(type="binary", label="y"),
    "rare": TaskSpec(type="binary", label="y"),
    "multiclass": TaskSpec(type="multiclass", label="y", classes=("a", "b", "c")),
    "regression": TaskSpec(type="regression", label="y"),
}


def answers(kind: str, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and outputs of a calibrated model."""
    rng = np.random.default_rng(seed)
    if kind == "multiclass":
        outputs = rng.dirichlet([1, 2, 3], rows)
        return (outputs.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1).astype(float), outputs
    if kind == "regression":
        truth = rng.normal(5, 2, rows)
        return truth, truth + rng.normal(0, 1, rows)
    outputs = 1 / (1 + np.exp(-rng.normal(-6.0 if kind == "rare" else -1.0, 1.2, rows)))
    return (rng.random(rows) < outputs).astype(float), outputs


@pytest.mark.parametrize("kind", TASKS)
def test_figures_are_scikit_learns_in_one_piece_and_in_parts(kind: str) -> None:
    labels, outputs = answers(kind, 20_000)
    whole = scores.score(TASKS[kind], labels, outputs)
    parts = scores.empty(TASKS[kind])
    for start in range(0, 20_000, 3_000):
        parts = scores.add(
            parts, scores.score(TASKS[kind], labels[start : start + 3_000], outputs[start : start + 3_000])
        )
    expected = measure(TASKS[kind], labels, outputs)
    for name, value in expected.items():
        allowed = 5e-4 if name == "auc" else 1e-9  # the AUC alone is read off bins
        assert whole.metrics()[name] == pytest.approx(value, abs=allowed), name
        assert parts.metrics()[name] == pytest.approx(whole.metrics()[name], abs=1e-9), name


@pytest.mark.parametrize("kind", TASKS)
def test_scores_read_back_from_strict_json(kind: str) -> None:
    for rows in (0, 50):
        found = scores.score(TASKS[kind], *answers(kind, rows))
        assert scores.load(json.loads(json.dumps(found.plain(), allow_nan=False))).plain() == found.plain()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(
            (kind, name)
            for kind in ("binary",)
            for name in ("auc", "log_loss", "brier", "accuracy", "precision", "recall", "f1")
        ),
        ("multiclass", "accuracy"),
        ("multiclass", "macro_f1"),
        ("multiclass", "log_loss"),
        ("regression", "rmse"),
        ("regression", "mae"),
        ("regression", "bias"),
    ],
)
def test_an_interval_holds_the_truth_as_often_as_it_says(kind: str, name: str) -> None:
    truth = scores.score(TASKS[kind], *answers(kind, 400_000, seed=1)).metrics()[name]
    held = 0
    for seed in range(100):
        ends = scores.score(TASKS[kind], *answers(kind, 600, seed=seed + 10)).interval(name, 0.9)
        assert ends is not None
        held += ends[0] <= truth <= ends[1]
    assert 80 <= held <= 98


@pytest.mark.parametrize(
    ("labels", "outputs", "low", "high"),
    [
        pytest.param([0] * 20 + [1] * 20, [0.1] * 20 + [0.9] * 20, 0.8, 1.0, id="all-in-order"),
        pytest.param([0] * 20 + [1] * 20, [0.9] * 20 + [0.1] * 20, 0.0, 0.2, id="all-turned-round"),
        pytest.param([0] * 20 + [1] * 20, [0.5] * 40, 0.49, 0.51, id="all-the-same"),
    ],
)
def test_the_area_has_an_interval_at_its_ends(labels, outputs, low, high) -> None:
    ends = scores.score(TASKS["binary"], np.array(labels), np.array(outputs)).interval("auc")
    assert ends is not None and low <= ends[0] <= ends[1] <= high


@pytest.mark.parametrize("kind", TASKS)
def test_no_row_gives_no_figure_and_no_interval(kind: str) -> None:
    found = scores.empty(TASKS[kind])
    assert found.rows == 0 and found.metrics() == {}
    assert all(found.interval(name) is None for name in ("auc", "accuracy", "rmse", "macro_f1", "log_loss", "nothing"))


@pytest.mark.parametrize(
    ("kind", "labels", "outputs"),
    [
        pytest.param("binary", [2.0], [0.5], id="no-truth-value"),
        pytest.param("binary", [1.0], [1.5], id="no-probability"),
        pytest.param("binary", [1.0, 0.0], [0.5], id="one-short"),
        pytest.param("multiclass", [3.0], [[0.2, 0.3, 0.5]], id="no-class"),
        pytest.param("multiclass", [1.0], [[0.5, 0.5]], id="a-class-short"),
        pytest.param("regression", [float("nan")], [1.0], id="not-a-number"),
    ],
)
def test_what_the_task_does_not_know_is_refused(kind, labels, outputs) -> None:
    with pytest.raises(ValueError, match="must be"):
        scores.score(TASKS[kind], np.array(labels), np.array(outputs))


def test_scores_of_other_tasks_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="different tasks"):
        scores.add(scores.empty(TASKS["binary"]), scores.empty(TASKS["regression"]))
    with pytest.raises(ValueError, match="no scores"):
        scores.load({"task": "ranking"})


def test_every_value_of_a_slice_has_its_rows_and_missing_is_one() -> None:
    labels, outputs = answers("binary", 90)
    found = scores.by_value(TASKS["binary"], labels, outputs, pl.Series(["a", "b", None] * 30))
    assert {value: scores.load(plain).rows for value, plain in found.items()} == {"a": 30, "b": 30, "missing": 30}


def test_the_errors_of_a_wild_model_stay_numbers() -> None:
    found = scores.score(TASKS["regression"], np.array([0.0, 1.0]), np.array([1e300, -1e300]))
    json.dumps(found.plain(), allow_nan=False)


def test_shares_have_wilsons_interval() -> None:
    assert intervals.share(10, 20, 0.95) == pytest.approx((0.2993, 0.7007), abs=1e-4)
    assert intervals.share(0, 0, 0.95) is None
