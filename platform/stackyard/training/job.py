"""The work of one run, under its keeper: data, snapshot, features, cluster, models, bundle, result.

Nothing expensive starts before everything that can be known to be wrong has been found: spec, data, labels and
parameters are checked first. A failure is one clear reason in result.json; its traceback goes to failure.log.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import polars as pl

from stackyard.data import code, features, snapshots
from stackyard.data.errors import DataError, blame
from stackyard.data.features import FeatureFunction, FeatureSchema
from stackyard.spec.metrics import metric
from stackyard.store import layout
from stackyard.store.documents import canonical, digest_of
from stackyard.store.objects import Store
from stackyard.training import cluster, fit, measures, package, predict, recipe
from stackyard.training import intent as intents
from stackyard.training.boost import Stage
from stackyard.training.checkpoints import Checkpoint, Checkpoints
from stackyard.training.failures import explain, without
from stackyard.training.intent import Intent
from stackyard.training.progress import Progress


def main(argv: list[str]) -> int:
    """Do the run of the intent `argv[0]` with `argv[1]` as its folder. 0 done, 1 failed, 5 to be tried again."""
    started = time.monotonic()
    intent = intents.read(Path(argv[0]))
    store = Store.open(intent.store)
    secrets = {name: os.environ.get(name, "") for name in intent.project.data.source.secrets}
    try:
        figures = _Run(intent, store, Path(argv[1])).go()
    except Exception as error:  # noqa: BLE001  whatever it was, it becomes one reason and a log
        reason = explain(error)
        key = layout.run(intent.run_id, "failure.log")
        store.write(key, without(secrets, traceback.format_exc()).encode())
        if reason is None:
            print(f"the cluster went away ({type(error).__name__}); details in {key}", flush=True)
            return 5
        print(f"details in {key}", flush=True)
        seconds = round(time.monotonic() - started, 3)
        intents.conclude(store, intent.run_id, "failed", without(secrets, reason), seconds=seconds)
        return 1
    seconds = round(time.monotonic() - started, 3)
    intents.conclude(store, intent.run_id, "succeeded", "", seconds=seconds, **figures)
    Checkpoints(store, intent.run_id, "").clear()
    return 0


class _Run:
    def __init__(self, intent: Intent, store: Store, folder: Path) -> None:
        self.intent, self.store, self.folder = intent, store, folder
        self.project = intent.project
        self.progress = Progress(store, intent.run_id)
        self.timings: dict[str, float] = {}
        self._mark = time.monotonic()

    def go(self) -> dict[str, Any]:
        """The whole run; returns what result.json says of it."""
        told = recipe.parameters(self.project)
        patience = recipe.patience(self.project)
        snapshot, digest = self._freeze()
        frame = snapshots.load(self.store, snapshot)
        self._forget_secrets()
        self._timed("data", f"{frame.height} rows, snapshot {snapshot[:12]}")
        function, computed = self._features(digest, frame)
        labels = recipe.labels(self.project.task, frame[self.project.task.label])
        cut = recipe.boundaries(frame[self.project.data.time].to_numpy(), self.project.training.split)
        schema = FeatureSchema.fit(computed)
        early = FeatureSchema.fit(computed[: cut[0]])
        matrices = fit.Matrices(early.encode(computed), schema.encode(computed), labels)
        self._timed("features", f"{len(schema.names)} features")
        job = self._job(told, patience, snapshot, digest, cut)
        trial, final = self._fit(job, matrices)
        metrics = self._measure(trial, job, matrices)
        done = package.Finished(
            frame,
            computed,
            matrices.final,
            labels,
            schema,
            function,
            final.model,
            final.round,
            metrics,
            snapshot,
            digest,
            told,
        )
        bundle, model = package.publish(self.store, self.intent, done)
        self._timed("bundle", bundle[:12])
        return {
            "bundle": bundle,
            "snapshot": snapshot,
            "model_digest": model,
            "metrics": metrics,
            "timings": self.timings,
        }

    def _freeze(self) -> tuple[str, str]:
        """Digests of snapshot and code: what an earlier try of this run froze, or frozen now."""
        key = layout.run(self.intent.run_id, "frozen.json")
        try:
            found = json.loads(self.store.read(key))
            return found["snapshot"], found["code"]
        except KeyError:
            pass
        self.progress.say("data", "reading and checking")
        digest = code.publish(self.store, self.intent.project_folder)
        window = self.intent.window
        frozen = snapshots.freeze(self.store, self.project, self.intent.project_folder, window=window)
        found = {"kind": "run-frozen", "version": 1, "snapshot": frozen.digest, "code": digest}
        self.store.create(key, canonical(found))
        return frozen.digest, digest

    def _forget_secrets(self) -> None:
        """The source's secrets have done their work; Ray's processes do not inherit them."""
        for name in self.project.data.source.secrets:
            os.environ.pop(name, None)

    def _features(self, digest: str, frame: pl.DataFrame) -> tuple[FeatureFunction, pl.DataFrame]:
        """The frozen feature function, and what it makes of `frame`."""
        folder = code.unpack(self.store, digest, self.intent.cache)
        function = code.load(folder, self.project.features.function)
        try:
            return function, features.compute(function, frame, self.project.data)
        except DataError:
            raise
        except Exception as error:
            told = blame(error, folder).replace(f"{folder.resolve()}/", "")  # the author knows it by its own name
            raise DataError(f"features.function: {told}") from error

    def _job(
        self, told: dict[str, Any], patience: int | None, snapshot: str, digest: str, cut: tuple[int, int]
    ) -> fit.Job:
        training = self.project.training
        decides = [snapshot, digest, told, patience, training.rounds, training.seed, training.workers, list(cut)]
        decides += [training.checkpoint_every, package.versions()]
        common = (told, training.rounds, training.checkpoint_every)
        stages = (Stage("trial", *common, training.seed, patience), Stage("final", *common, training.seed + 1))
        return fit.Job(
            store=self.intent.store,
            run_id=self.intent.run_id,
            recipe=digest_of(decides),
            stages=stages,
            cut=cut,
            workers=training.workers,
            threads=training.threads,
            max_failures=training.max_failures,
        )

    def _fit(self, job: fit.Job, matrices: fit.Matrices) -> tuple[Checkpoint, Checkpoint]:
        """The ends of both stages. A try that finds both needs no cluster at all."""
        checkpoints = Checkpoints(self.store, job.run_id, job.recipe)
        if (found := _ends(checkpoints)) is None:
            self.progress.say("cluster", f"{job.workers} worker(s) of {job.threads} thread(s)")
            shared = sum(part.nbytes for part in (matrices.trial, matrices.final, matrices.labels))
            cpus = job.workers * job.threads
            with cluster.own_cluster(self.folder, self.intent.node_address, cpus=cpus, shared_bytes=shared):
                self._timed("cluster", "up")
                fit.fit(job, matrices, self.folder / "train")
                self._timed("training", "done")
            self._timed("shutdown", "cluster gone")
            found = _ends(checkpoints)
        if found is None:
            raise fit.FitError("training ended, but its last checkpoints cannot be read back")
        return found

    def _measure(self, trial: Checkpoint, job: fit.Job, matrices: fit.Matrices) -> dict[str, dict[str, float]]:
        rounds = fit.chosen_rounds(job.stages[0], trial)
        model = predict.booster(trial.model, threads=job.threads)[:rounds]
        outputs = predict.outputs(model, matrices.trial)
        ends = (0, *job.cut, len(matrices.labels))
        found = {
            name: measures.measure(self.project.task, matrices.labels[start:end], outputs[start:end])
            for name, start, end in zip(("train", "validation", "test"), ends, ends[1:], strict=False)
        }
        figure = metric(self.project.task)
        shown = ", ".join(f"{name} {found[name].get(figure, float('nan')):.4f}" for name in found)
        self._timed("measure", f"{figure}: {shown}")
        return found

    def _timed(self, phase: str, text: str) -> None:
        now = time.monotonic()
        self.timings[phase] = round(now - self._mark, 3)
        self._mark = now
        self.progress.say(phase, f"{text} ({self.timings[phase]:.1f} s)", timings=self.timings)


def _ends(checkpoints: Checkpoints) -> tuple[Checkpoint, Checkpoint] | None:
    trial, final = checkpoints.newest("trial"), checkpoints.newest("final")
    return (trial, final) if trial and final and trial.done and final.done else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
