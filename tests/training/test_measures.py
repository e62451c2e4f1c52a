"""Figures are those of the books, checked by hand; what cannot be measured is left out."""

import numpy as np
import pytest

from stackyard.spec.models import TaskSpec
from stackyard.training.measures import measure

BINARY = TaskSpec(type="binary", label="y")
CLASSES = TaskSpec(type="multiclass", label="y", classes=("a", "b", "c"))
NUMBER = TaskSpec(type="regression", label="y")


@pytest.mark.parametrize(
    ("task", "labels", "outputs", "expected"),
    [
        pytest.param(
            BINARY,
            [0, 0, 1, 1],
            [0.1, 0.6, 0.4, 0.9],
            {"auc": 0.75, "accuracy": 0.5, "precision": 0.5, "recall": 0.5, "brier": 0.185, "base_rate": 0.5},
            id="binary",
        ),
        pytest.param(
            CLASSES,
            [0, 1, 2],
            [[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7]],
            {"accuracy": 2 / 3, "macro_f1": (2 / 3 + 0 + 1) / 3, "log_loss": -np.log(0.5 * 0.3 * 0.7) / 3},
            id="multiclass",
        ),
        pytest.param(NUMBER, [1, 2, 3], [1, 2, 5], {"rmse": (4 / 3) ** 0.5, "mae": 2 / 3, "r2": -1.0}, id="regression"),
    ],
)
def test_figures_are_as_worked_out_by_hand(task: TaskSpec, labels, outputs, expected: dict[str, float]) -> None:
    found = measure(task, np.asarray(labels, np.float32), np.asarray(outputs, np.float32))
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_one_class_alone_has_no_auc() -> None:
    found = measure(BINARY, np.ones(3, np.float32), np.full(3, 0.7, np.float32))
    assert "auc" not in found
    assert found["recall"] == 1.0
    assert measure(BINARY, np.ones(0, np.float32), np.ones(0, np.float32)) == {}
