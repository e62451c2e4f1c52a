"""Boosting that ends in the same bytes whether or not it was interrupted.

Trees are grown in segments of `every` rounds, and each segment starts from the bytes the last one ended in, with
a seed that depends on the round alone. An unbroken run passes through exactly the states a resumed one starts
from, so both have one digest; it costs one prediction of the training rows per segment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost
from xgboost.callback import TrainingCallback

from stackyard.training.checkpoints import Checkpoint

_MORE_IS_BETTER = ("auc", "aucpr", "map", "ndcg", "pre")


@dataclass(frozen=True)
class Stage:
    """One fit of the recipe: `trial` on the training rows, `final` on all of them."""

    name: str
    parameters: dict[str, Any]
    rounds: int
    every: int
    seed: int
    patience: int | None = None


@dataclass(frozen=True)
class Rows:
    """The rows of one worker: features [rows, features] float32 (NaN is missing), labels [rows] float32."""

    train: tuple[np.ndarray, np.ndarray]
    watched: tuple[np.ndarray, np.ndarray] | None


def deal(rows: np.ndarray, rank: int, workers: int) -> np.ndarray:
    """The share of worker `rank`: every `workers`-th row, so that each sees the whole span of time."""
    return rows[rank::workers]


def boost(stage: Stage, rows: Rows, start: Checkpoint | None, save: Callable[[Checkpoint], None]) -> Checkpoint:
    """Grow `stage` from `start` (or nothing) to its end; `save` gets every segment's end. Returns the last."""
    threads = int(stage.parameters["nthread"])
    train = xgboost.DMatrix(rows.train[0], label=rows.train[1], nthread=threads)
    evals = []
    if rows.watched is not None:
        evals = [(xgboost.DMatrix(rows.watched[0], label=rows.watched[1], nthread=threads), "validation")]
    state = start or Checkpoint(stage.name, 0, b"")
    while not state.done:
        state = _segment(stage, train, evals, state)
        save(state)
    return state


def best_round(history: tuple[float, ...], metric: str) -> int:
    """The round (from 1) after which the watched figure was best; the first of equals."""
    values = np.asarray(history)
    return int(np.argmax(values) if _rises(metric) else np.argmin(values)) + 1


def _segment(stage: Stage, train: xgboost.DMatrix, evals: list[Any], state: Checkpoint) -> Checkpoint:
    step = min(stage.every - state.round % stage.every, stage.rounds - state.round)
    seen: dict[str, dict[str, list[float]]] = {}
    metric = str(stage.parameters["eval_metric"])
    callbacks = [] if stage.patience is None or not evals else [_Stop(stage.patience, metric, state.history)]
    booster = xgboost.train(
        {**stage.parameters, "seed": _seed(stage.seed, state.round)},
        train,
        step,
        evals=evals,
        evals_result=seen,
        xgb_model=bytearray(state.model) if state.model else None,
        verbose_eval=False,
        callbacks=callbacks,
    )
    grown = next(iter(seen["validation"].values())) if evals else []
    rounds, history = booster.num_boosted_rounds(), (*state.history, *grown)
    done = rounds >= stage.rounds or _stale(history, metric, stage.patience)
    return Checkpoint(stage.name, rounds, bytes(booster.save_raw("ubj")), history, done)


def _stale(history: tuple[float, ...], metric: str, patience: int | None) -> bool:
    return patience is not None and len(history) - best_round(history, metric) >= patience if history else False


class _Stop(TrainingCallback):
    """Ends the trial when the watched figure has not improved for `patience` rounds, segments before included."""

    def __init__(self, patience: int, metric: str, before: tuple[float, ...]) -> None:
        super().__init__()
        self._patience, self._metric, self._before = patience, metric, before

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        return _stale((*self._before, *next(iter(evals_log["validation"].values()))), self._metric, self._patience)


def _rises(metric: str) -> bool:
    return metric.partition("@")[0] in _MORE_IS_BETTER


def _seed(seed: int, start: int) -> int:
    """A seed of its own for each segment: XGBoost starts its generator anew with each booster."""
    return (seed * 1_000_003 + start) % (2**31 - 1)
