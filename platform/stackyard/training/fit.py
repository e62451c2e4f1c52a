"""The part of a run that Ray Train carries: workers that grow one model together and survive being killed.

Rows go through the cluster's object store and are dealt by rank. Checkpoints are our own, digested, in the
artifact store; Ray's run folder is scratch, so its resume rules (an old result returned for a known name, a
corrupt checkpoint taken for good) never apply.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stackyard.store.objects import Store, sha256
from stackyard.training.boost import Rows, Stage, best_round, boost, deal
from stackyard.training.checkpoints import Checkpoint, Checkpoints
from stackyard.training.progress import Echo, Progress


class FitError(Exception):
    """The workers failed more often than the run may."""


@dataclass(frozen=True)
class Job:
    """What every worker is told. `recipe` is the digest of all that decides the model's bytes."""

    store: str
    run_id: str
    recipe: str
    stages: tuple[Stage, ...]
    """Trial and final; the trial alone where it is not fitted again."""
    cut: tuple[int, int]
    """Ends of the training and of the validation rows."""
    workers: int
    threads: int
    max_failures: int


@dataclass(frozen=True)
class Matrices:
    """All rows of the snapshot in time order; encoded once as the trial may know them, once as the final may."""

    trial: np.ndarray
    final: np.ndarray
    labels: np.ndarray


def fit(job: Job, matrices: Matrices, folder: Path) -> None:
    """Run the stages on the cluster this process is connected to; the models are the stages' last checkpoints.

    Raises FitError when workers fail more than `job.max_failures` times.
    """
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.exceptions import TrainingFailedError

    references = [ray.put(matrices.trial[: job.cut[1]]), ray.put(matrices.final), ray.put(matrices.labels)]
    trainer = _trainer()(
        work,
        train_loop_config={"job": job, "matrices": references},
        scaling_config=ScalingConfig(num_workers=job.workers, resources_per_worker={"CPU": job.threads}),
        run_config=RunConfig(
            name=job.run_id,
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=job.max_failures),
        ),
    )
    with Echo(Progress(Store.open(job.store), job.run_id)):
        try:
            trainer.fit()
        except TrainingFailedError as error:
            raise FitError(_reason(error)) from error


def _trainer() -> type[Any]:
    """XGBoostTrainer without two helpers of no use here: no Ray Data is read, and the cluster ends with the run.

    Each is a process that imports Ray, 2 to 4 s of CPU. A Ray without this private method just starts them.
    """
    from ray.train.v2._internal.callbacks import DatasetsCallback
    from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
    from ray.train.xgboost import XGBoostTrainer

    class Lean(XGBoostTrainer):
        def _create_default_callbacks(self) -> list[Any]:
            useless = (DatasetsCallback, PlacementGroupCleanerCallback)
            return [callback for callback in super()._create_default_callbacks() if not isinstance(callback, useless)]

    return Lean


def work(config: dict[str, Any]) -> None:
    """What each worker runs: resume or begin, trial first, then final."""
    import ray
    from ray import train

    context = train.get_context()
    rank, workers, job = context.get_world_rank(), context.get_world_size(), config["job"]
    trial, final, labels = ray.get(config["matrices"])
    worker = _Worker(job, rank)
    first, *second = job.stages
    begin, end = job.cut
    share = [deal(part, rank, workers) for part in (trial[:begin], labels[:begin], trial[begin:end], labels[begin:end])]
    watched = (share[2], share[3]) if end > begin else None
    ended = worker.grow(first, Rows((share[0], share[1]), watched))
    for stage in second:
        worker.grow(
            replace(stage, rounds=chosen_rounds(first, ended)),
            Rows((deal(final, rank, workers), deal(labels, rank, workers)), None),
        )


def chosen_rounds(trial: Stage, ended: Checkpoint) -> int:
    """Rounds of the final model: all that the trial grew, or its best ones where it was to stop early."""
    if trial.patience is None or not ended.history:
        return ended.round
    return best_round(ended.history, str(trial.parameters["eval_metric"]))


class _Worker:
    """One worker's view of the run: only rank 0 writes, all report."""

    def __init__(self, job: Job, rank: int) -> None:
        store = Store.open(job.store)
        self._rank, self._progress = rank, Progress(store, job.run_id)
        self._checkpoints = Checkpoints(store, job.run_id, job.recipe)

    def grow(self, stage: Stage, rows: Rows) -> Checkpoint:
        start = self._agree(stage.name)
        return boost(stage, rows, start, lambda state: self._save(stage, state))

    def _agree(self, stage: str) -> Checkpoint | None:
        """All start where rank 0 found the newest sound checkpoint."""
        from ray.train.collective import broadcast_from_rank_zero

        mine = self._checkpoints.newest(stage) if self._rank == 0 else None
        start = int(broadcast_from_rank_zero(mine.round if mine else 0))
        return mine if self._rank == 0 or not start else self._checkpoints.at(stage, start)

    def _save(self, stage: Stage, state: Checkpoint) -> None:
        from ray import train

        metric, value = stage.parameters["eval_metric"], state.history[-1] if state.history else None
        if self._rank == 0:
            self._checkpoints.save(state)
            facts = {"stage": stage.name, "round": state.round, "rounds": stage.rounds}
            warnings = self._checkpoints.warnings
            self._progress.write("training", metric=metric, value=value, warnings=warnings, **facts)
        train.report({"stage": stage.name, "round": state.round, metric: value, "model": sha256(state.model)})


def _reason(error: Exception) -> str:
    """One line: the first worker's own words, or the controller's."""
    failures = getattr(error, "worker_failures", None)
    inner = next(iter(failures.values())) if failures else getattr(error, "controller_failure", error)
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    text = next((line for line in reversed(lines) if "Error" in line), lines[0] if lines else type(inner).__name__)
    return f"{len(failures)} of the workers failed for the last time allowed: {text[:300]}" if failures else text[:300]
