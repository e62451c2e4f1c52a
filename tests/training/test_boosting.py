"""A model does not show whether its making was interrupted."""

from typing import Any

import numpy as np
import pytest

from stackyard.training.boost import Rows, Stage, best_round, boost, deal
from stackyard.training.checkpoints import Checkpoint

_RANDOM = np.random.default_rng(0)
_FEATURES = _RANDOM.normal(size=(600, 4)).astype(np.float32)
_LABELS = (_FEATURES[:, 0] + _RANDOM.normal(size=600) > 0).astype(np.float32)
ROWS = Rows((_FEATURES[:400], _LABELS[:400]), (_FEATURES[400:], _LABELS[400:]))
TOLD: dict[str, Any] = {"objective": "binary:logistic", "eval_metric": "auc", "nthread": 1, "max_depth": 3}
RANDOM: dict[str, Any] = {**TOLD, "subsample": 0.7, "colsample_bytree": 0.5}


def _made(stage: Stage, start: Checkpoint | None = None) -> list[Checkpoint]:
    found: list[Checkpoint] = []
    boost(stage, ROWS, start, found.append)
    return found


@pytest.mark.parametrize("told", [pytest.param(TOLD, id="plain"), pytest.param(RANDOM, id="sampling")])
@pytest.mark.parametrize("patience", [pytest.param(None, id="all-rounds"), pytest.param(4, id="stopping-early")])
def test_resuming_at_any_checkpoint_ends_in_the_same_bytes(told: dict[str, Any], patience: int | None) -> None:
    stage = Stage("trial", told, 23, 5, 3, patience)
    whole = _made(stage)
    assert whole[-1].done
    for place, state in enumerate(whole):
        assert _made(stage, state) == whole[place + 1 :]


def test_the_seed_decides_the_bytes_and_each_segment_draws_anew() -> None:
    first, second = (_made(Stage("trial", RANDOM, 10, 5, seed))[-1].model for seed in (1, 2))
    assert first != second
    assert _made(Stage("trial", RANDOM, 10, 5, 1))[-1].model == first


def test_stopping_early_counts_rounds_across_checkpoints() -> None:
    ended = _made(Stage("trial", TOLD, 400, 7, 0, 10))[-1]
    assert ended.round < 400
    assert ended.round - best_round(ended.history, "auc") == 10


def test_every_row_is_dealt_once() -> None:
    rows = np.arange(11)
    assert sorted(np.concatenate([deal(rows, rank, 3) for rank in range(3)])) == list(rows)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [pytest.param("auc", 2, id="more-is-better"), pytest.param("logloss", 1, id="less-is-better")],
)
def test_the_best_round_is_the_first_of_equals(metric: str, expected: int) -> None:
    assert best_round((0.1, 0.3, 0.3, 0.1), metric) == expected
