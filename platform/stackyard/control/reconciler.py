"""Sees the world, asks `decide`, and does as it says: every act may be repeated and may be the last one.

Acts are idempotent: an intent is a row with a unique number, a result and a Release are create-only objects.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import structlog

from stackyard.clock import Clock
from stackyard.control import decide as d
from stackyard.control.commit import commit, lock
from stackyard.control.journal import Journal, Run
from stackyard.control.local import LocalRuns
from stackyard.control.projector import Projector
from stackyard.control.settings import ControllerSettings
from stackyard.data import code
from stackyard.store import bundles, layout, releases
from stackyard.store.documents import digest_of, public_text
from stackyard.store.keys import ensure_signing_key
from stackyard.store.objects import Store
from stackyard.training import intent as intents

log = structlog.get_logger()

PROJECTION_RETRY = dt.timedelta(seconds=30)
"""How long a projection that failed is left alone."""


class Reconciler:
    """One model's loop: `step()` until told to stop."""

    def __init__(
        self,
        settings: ControllerSettings,
        *,
        store: Store,
        journal: Journal,
        runs: LocalRuns,
        projector: Projector,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._store = store
        self._journal = journal
        self._runs = runs
        self._projector = projector
        self._clock = clock
        self._key = ensure_signing_key(settings.signing_key)
        self._trusted = [public_text(self._key.public_key())]
        self._newest: releases.Release | None = None
        self._results: dict[str, dict[str, Any]] = {}
        self._projection_due: dict[str, dt.datetime] = {}
        self._failure = ""

    def step(self) -> None:
        """See, decide, act, once."""
        now = self._clock.now()
        self._collect(now)
        for action in d.decide(self.observe(), now):
            again = isinstance(action, d.Project) and action.run_id in self._projection_due
            if not again and self._journal.record(self._settings.model, type(action).__name__, action.reason, now):
                log.info("decided", action=type(action).__name__, reason=action.reason)
            self.act(action, now)
        self._failure = ""

    def note(self, failure: Exception) -> bool:
        """Tell people of a step that failed; returns whether it is news: a failure that lasts is told once."""
        reason = (str(failure).strip().splitlines() or [type(failure).__name__])[0][:500]
        if reason == self._failure:
            return False
        self._failure = reason
        self._journal.record(self._settings.model, "Failed", reason, self._clock.now())
        return True

    def observe(self) -> d.World:
        """The world as it is now."""
        settings = self._settings
        after = 0 if self._newest is None else self._newest.number
        self._newest = releases.newest(self._store, settings.model, self._trusted, after=after) or self._newest
        now = self._clock.now()
        seen = [self._see(run, now) for run in self._journal.runs(settings.model)]
        return d.World(
            model=settings.model,
            recipe=self._recipe() if self._newest is None else "",
            champion=None if self._newest is None else self._newest.champion,
            release=0 if self._newest is None else self._newest.number,
            runs=seen,
            mlflow=settings.mlflow is not None,
        )

    def act(self, action: d.Action, now: dt.datetime) -> None:
        """Carry `action` out; repeating it changes nothing."""
        match action:
            case d.StartRun():
                self._start(action, now)
            case d.Abandon():
                intents.conclude(self._store, action.run_id, "failed", action.reason)
            case d.Publish():
                self._publish(action, now)
            case d.Project():
                self._project(action)
            case d.Wait():
                pass

    def _see(self, run: Run, now: dt.datetime) -> d.RunSeen:
        result = self._result(run.run_id)
        if result is not None:
            state = "succeeded" if result.get("status") == "succeeded" else "failed"
        else:
            state = "running" if self._runs.alive(run.run_id, run.pid) else "pending"
        # A projection that failed is tried again later, not at every step.
        waiting = self._projector.busy(run.run_id) or self._projection_due.get(run.run_id, now) > now
        return d.RunSeen(
            run_id=run.run_id,
            number=run.number,
            recipe=run.recipe,
            state=state,
            ended=_ended(run, result) if result else None,
            bundle=result.get("bundle") if result else None,
            reason=result.get("reason") if result else None,
            projected=run.projected or waiting,
            attempts=run.attempts,
            started=_time(run.started),
        )

    def _result(self, run_id: str) -> dict[str, Any] | None:
        if run_id not in self._results:
            try:
                self._results[run_id] = json.loads(self._store.read(layout.run(run_id, "result.json")))
            except KeyError:
                return None
        return self._results[run_id]

    def _recipe(self) -> str:
        return digest_of({"project": self._settings.project, "code": code.archive(self._settings.project_folder)[1]})

    def _start(self, action: d.StartRun, now: dt.datetime) -> None:
        settings, recipe = self._settings, self._recipe()
        known = {run.number: run for run in self._journal.runs(settings.model)}
        run_id = known[action.number].run_id if action.number in known else _run_id(settings, action.number, recipe)
        stamp = now.isoformat(timespec="seconds")
        self._journal.intend(
            Run(
                run_id=run_id,
                model=settings.model,
                number=action.number,
                recipe=recipe,
                reason=action.reason,
                created=stamp,
            )
        )
        intent = {
            "run_id": run_id,
            "project": settings.project,
            "project_folder": str(settings.project_folder),
            "store": settings.store,
            "cache": str(settings.cache),
            "node_address": settings.node_address,
            "facts": {**settings.facts, **commit(settings.checkout), **lock(settings.checkout)},
        }
        self._journal.started(run_id, self._runs.start(run_id, intent), now)

    def _publish(self, action: d.Publish, now: dt.datetime) -> None:
        model = self._settings.model
        bundles.manifest(self._store, action.bundle)  # raises rather than release what is not there
        release = releases.Release(
            model=model,
            number=action.number,
            champion=action.bundle,
            reason=action.reason,
            created=now.isoformat(timespec="seconds"),
            previous=releases.stored_digest(self._store, model, action.number - 1),
        )
        if releases.publish(self._store, release, self._key):
            log.info("released", number=release.number, bundle=release.champion)

    def _project(self, action: d.Project) -> None:
        result = self._results[action.run_id]
        manifest = bundles.manifest(self._store, result["bundle"])
        lineage = self._store.read(
            layout.bundle_file(result["bundle"], "lineage.json"), digest=manifest["files"]["lineage.json"]["sha256"]
        )
        projection = {
            "tracking_uri": self._settings.mlflow,
            "result": result,
            "manifest": manifest,
            "lineage": json.loads(lineage),
            "champion": action.champion,
        }
        self._projector.start(action.run_id, projection)

    def _collect(self, now: dt.datetime) -> None:
        for run_id, made in self._projector.finished().items():
            if made:
                self._journal.projected(run_id)
            else:
                self._projection_due[run_id] = now + PROJECTION_RETRY


def _run_id(settings: ControllerSettings, number: int, recipe: str) -> str:
    # The store may be older than the journal (a database that was lost): the recipe keeps ids apart.
    return f"{settings.model}-{number:04d}-{recipe[:8]}"


def _ended(run: Run, result: dict[str, Any]) -> dt.datetime | None:
    started = _time(run.started)
    return None if started is None else started + dt.timedelta(seconds=result.get("seconds") or 0.0)


def _time(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text)
