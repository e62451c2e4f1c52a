"""The work of one run, under its keeper: data, snapshot, features, cluster, models, bundle, result.

Nothing expensive starts before everything that can be known to be wrong has been found: spec, data, labels and
parameters are checked first. A failure is one clear reason in result.json; its traceback goes to failure.log.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from stackyard.spec.metrics import metric
from stackyard.store import layout
from stackyard.store.documents import digest_of
from stackyard.store.objects import Store
from stackyard.training import cluster, fit, measures, package, predict, proof, reading, recipe
from stackyard.training import intent as intents
from stackyard.training.boost import Stage
from stackyard.training.checkpoints import Checkpoint, Checkpoints
from stackyard.training.failures import explain, without
from stackyard.training.intent import Intent
from stackyard.training.progress import Progress
from stackyard.training.proof import Proof
from stackyard.training.reading import Data
from stackyard.training.spending import Spending


def main(argv: list[str]) -> int:
    """Do the run of the intent `argv[0]` with `argv[1]` as its folder. 0 done, 1 failed, 5 to be tried again."""
    intent = intents.read(Path(argv[0]))
    store, started = Store.open(intent.store), time.monotonic()
    spending = Spending(store, intent.run_id)
    secrets = {name: os.environ.get(name, "") for name in intent.project.data.source.secrets}
    try:
        figures = Run(store, intent, Path(argv[1])).go()
    except Exception as error:  # noqa: BLE001  whatever it was, it becomes one reason and a log
        reason = explain(error)
        key = layout.run(intent.run_id, "failure.log")
        store.write(key, without(secrets, traceback.format_exc()).encode())
        if reason is None:
            print(f"the cluster went away ({type(error).__name__}); details in {key}", flush=True)
            return 5
        print(f"details in {key}", flush=True)
        figures = {"seconds": round(time.monotonic() - started, 3), **spending.hours(intent.project.training)}
        intents.conclude(store, intent.run_id, "failed", without(secrets, reason), **figures)
        return 1
    figures |= {"seconds": round(time.monotonic() - started, 3), **spending.hours(intent.project.training)}
    intents.conclude(store, intent.run_id, "succeeded", "", **figures)
    Checkpoints(store, intent.run_id, "").clear()
    return 0


class Run:
    """One try of a run, in `folder`."""

    def __init__(self, store: Store, intent: Intent, folder: Path) -> None:
        self.intent, self.store, self.folder = intent, store, folder
        self.project = intent.project
        self.progress = Progress(store, intent.run_id)
        self.timings: dict[str, float] = {}
        self._mark = time.monotonic()

    def go(self) -> dict[str, Any]:
        """The whole run; returns what result.json says of it."""
        told = recipe.parameters(self.project)
        patience = recipe.patience(self.project)
        self.progress.say("data", "reading and checking")
        data = reading.read(self.store, self.intent, patience, self._timed)
        job = self._job(told, patience, data)
        trial, final = self._fit(job, data.matrices)
        metrics = self._measure(trial, job, data.matrices)
        common = {"metrics": metrics, "snapshot": data.snapshot, "code": data.code, "parameters": told}
        make = partial(package.Finished, function=data.function, **common)
        found = {"snapshot": data.snapshot, "metrics": metrics, "timings": self.timings, "window": self._window()}
        found["data_end"] = proof.end_of(data.frame, self.project.data)
        if data.proof is None:
            assert final is not None
            return found | self._published(make(*data.all, data.schema, model=final.model, rounds=final.round))
        return self._retrained(job, data, data.proof, (trial, final), make, found)

    def _retrained(
        self,
        job: fit.Job,
        data: Data,
        held: Proof,
        ends: tuple[Checkpoint, Checkpoint | None],
        make: Callable[..., package.Finished],
        found: dict[str, Any],
    ) -> dict[str, Any]:
        """The bundles of trial and final, and what the recipe has to show on the rows held out."""
        told, rounds = job.stages[0].parameters, fit.chosen_rounds(job.stages[0], ends[0])
        model = bytes(predict.booster(ends[0].model, threads=job.threads)[:rounds].save_raw("ubj"))
        known = {"recipe": recipe.digest(self.project, told, data.code, package.versions())}
        end = proof.end_of(data.frame[: job.cut[1]], self.project.data)
        bound = {"stage": "trial", "data_end": end, **known}
        found |= self._published(make(*data.older, data.early, model=model, rounds=rounds, bound=bound))
        found["trial"] = found["bundle"]
        if (final := ends[1]) is None:
            found["data_end"] = end
        else:
            bound = {"stage": "refit", "data_end": found["data_end"], "gate": held.bind(found["trial"]), **known}
            done = make(*data.all, data.schema, model=final.model, rounds=final.round, bound=bound)
            found |= self._published(done)
        tried = proof.Tried(data.frame, data.computed, data.matrices.labels, job.cut[1], told, rounds)
        found |= proof.prove(self.store, self.intent, held, tried, found["trial"], found["bundle"])
        found["candidate"] |= {"code": data.code, **known}
        self._timed("proof", f"{found['holdout']['rows']} rows held out")
        return found

    def _published(self, done: package.Finished) -> dict[str, Any]:
        bundle, model = package.publish(self.store, self.intent, done)
        self._timed("bundle", bundle[:12])
        return {"bundle": bundle, "model_digest": model}

    def _window(self) -> dict[str, Any]:
        window = self.intent.window or self.project.data.window
        return {**window.model_dump(mode="json"), "exclude": [day.isoformat() for day in self.intent.exclude]}

    def _job(self, told: dict[str, Any], patience: int | None, data: Data) -> fit.Job:
        training = self.project.training
        decides = [data.snapshot, data.code, told, patience, training.rounds, training.seed, training.workers]
        decides += [list(data.cut), training.checkpoint_every, package.versions()]
        refit = data.proof is None or data.proof.refit
        common = (told, training.rounds, training.checkpoint_every)
        stages = (Stage("trial", *common, training.seed, patience), Stage("final", *common, training.seed + 1))
        stages = stages if refit else stages[:1]
        return fit.Job(
            store=self.intent.store,
            run_id=self.intent.run_id,
            recipe=digest_of(decides),
            stages=stages,
            cut=data.cut,
            workers=training.workers,
            threads=training.threads,
            max_failures=training.max_failures,
        )

    def _fit(self, job: fit.Job, matrices: fit.Matrices) -> tuple[Checkpoint, Checkpoint | None]:
        """The ends of trial and final. A try that finds both needs no cluster at all."""
        checkpoints = Checkpoints(self.store, job.run_id, job.recipe)
        if (found := _ends(job, checkpoints)) is None:
            self.progress.say("cluster", f"{job.workers} worker(s) of {job.threads} thread(s)")
            shared = sum(part.nbytes for part in (matrices.trial, matrices.final, matrices.labels))
            cpus = job.workers * job.threads
            with cluster.own_cluster(self.folder, self.intent.node_address, cpus=cpus, shared_bytes=shared):
                self._timed("cluster", "up")
                fit.fit(job, matrices, self.folder / "train")
                self._timed("training", "done")
            self._timed("shutdown", "cluster gone")
            found = _ends(job, checkpoints)
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
            if end > start
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


def _ends(job: fit.Job, checkpoints: Checkpoints) -> tuple[Checkpoint, Checkpoint | None] | None:
    ends = [checkpoints.newest(stage.name) for stage in job.stages]
    done = [end for end in ends if end is not None and end.done]
    return (done[0], done[1] if len(done) > 1 else None) if len(done) == len(ends) else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
