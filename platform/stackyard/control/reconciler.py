"""Sees the world, asks `decide`, and does as it says: every act may be repeated and may be the last one.

Acts are idempotent: an intent is a row with a unique number that one process claims, a result, a gate report and a
Release are create-only objects, and the audit log takes an event once.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import structlog

from stackyard.clock import Clock, SystemClock
from stackyard.control import actions as a
from stackyard.control import world as w
from stackyard.control.commit import commit, lock
from stackyard.control.decide import decide
from stackyard.control.failpoints import hit
from stackyard.control.inquiries import Inquiries, Worker
from stackyard.control.journal import Journal, Run
from stackyard.control.local import LocalRuns
from stackyard.control.observing import Observer
from stackyard.control.projector import Projector
from stackyard.control.settings import ControllerSettings
from stackyard.control.showing import NAME, Showing
from stackyard.control.telling import Telling
from stackyard.monitoring.senders import Alerts
from stackyard.spec.loop import StageSpec
from stackyard.store import audit, bundles, layout, releases
from stackyard.store.documents import canonical, digest_of, public_text
from stackyard.store.keys import ensure_signing_key
from stackyard.store.objects import Store
from stackyard.training import intent as intents

log = structlog.get_logger()

PROJECTION_RETRY = dt.timedelta(seconds=30)
"""How long a projection that failed is left alone."""
_TOPICS = {
    a.StartRun: "training",
    a.Abandon: "training",
    a.Propose: "training",
    a.Publish: "release",
    a.Project: "projection",
    a.Ask: "evidence",
}


class Reconciler:
    """One model's loop: `step()` until told to stop. Without a `worker` it only makes the first champion."""

    def __init__(
        self,
        settings: ControllerSettings,
        *,
        store: Store,
        journal: Journal,
        runs: LocalRuns,
        projector: Projector,
        clock: Clock,
        worker: Worker | None = None,
        alerts: Alerts | None = None,
        machine: Clock | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._journal = journal
        self._runs = runs
        self._projector = projector
        self._clock = clock
        self._machine = machine or (clock if worker is None else SystemClock())
        self._key = ensure_signing_key(settings.signing_key)
        trusted = [public_text(self._key.public_key())]
        self._audit = audit.Log(store, settings.model, self._key)
        self._inquiries = None if worker is None else Inquiries(worker)
        self._observer = Observer(
            settings,
            store=store,
            journal=journal,
            runs=runs,
            projector=projector,
            inquiries=self._inquiries,
            trusted=trusted,
        )
        self._telling = Telling(journal, settings.model, alerts)
        self._showing = Showing(store, settings.model, settings.mlflow, projector)
        self._failure = ""

    def step(self) -> bool:
        """See, decide, act, once; returns whether nothing is under way."""
        now, machine = self._clock.now(), self._machine.now()
        self._collect(now, machine)
        world = self._observer.look(now, machine)
        due = decide(world, now)
        for place, action in enumerate(due):
            if not (isinstance(action, a.Project) and action.run_id in self._observer.projection_due):
                self._record(_TOPICS.get(type(action), "release" if place == 0 else "training"), action, now)
            self.act(action, now)
        self._showing.step(self._observer.chain, self._observer.shown, machine)
        settled = self._telling.tell(world, due, {each.number: each.reason for each in self._observer.chain}, now)
        self._journal.record(self._settings.model, "controller", "Looked", "a whole step was made", now)
        self._failure = ""
        return settled

    def note(self, failure: Exception) -> bool:
        """Tell people of a step that failed; returns whether it is news: a failure that lasts is told once."""
        reason = (str(failure).strip().splitlines() or [type(failure).__name__])[0][:500]
        if reason == self._failure:
            return False
        self._failure = reason
        self._journal.record(self._settings.model, "controller", "Failed", reason, self._clock.now())
        return True

    def observe(self) -> w.World:
        """The world as it is now."""
        return self._observer.look(self._clock.now(), self._machine.now())

    def act(self, action: a.Action, now: dt.datetime) -> None:
        """Carry `action` out; repeating it changes nothing."""
        match action:
            case a.StartRun():
                self._start(action, now)
            case a.Abandon():
                intents.conclude(self._store, action.run_id, "failed", action.reason)
            case a.Publish():
                self._publish(action, now)
            case a.Project():
                self._project(action)
            case a.Ask() if self._inquiries is not None:
                wanted = self._observer.wanted.released
                released = {day.isoformat(): wish.created for day, wish in sorted(wanted.items())}
                self._inquiries.ask(action.kind, action.key, {**action.arguments, "released": released})
            case _:
                pass

    def _record(self, topic: str, action: a.Action, now: dt.datetime) -> None:
        if self._journal.record(self._settings.model, topic, type(action).__name__, action.reason, now):
            log.info("decided", action=type(action).__name__, reason=action.reason)

    def _collect(self, now: dt.datetime, machine: dt.datetime) -> None:
        for run_id, made in self._projector.finished().items():
            if run_id == NAME:
                self._showing.ended(made, machine)
            elif made:
                self._journal.projected(run_id)
            else:
                self._observer.projection_due[run_id] = machine + PROJECTION_RETRY
        for kind, answer in [] if self._inquiries is None else self._inquiries.collect(machine):
            body = dict(answer.body or {})
            if kind == "gate":
                self._judged(answer.key, body, now)
            else:
                self._journal.write(self._settings.model, kind, {"key": answer.key, **body}, now)
            hit("answer-noted")

    def _judged(self, run_id: str, report: dict[str, Any], now: dt.datetime) -> None:
        """Keep what the gates said, once and for all."""
        hit("gate-judged")
        said = "passed its gates" if report["passed"] else "was refused by its gates"
        self._tell(now, "judged", f"{run_id} {said}", f"gate:{run_id}", {"run_id": run_id, "passed": report["passed"]})
        self._store.create(layout.gate(self._settings.model, run_id), canonical(report))
        hit("gate-stored")

    def _tell(
        self, now: dt.datetime, what: str, why: str, event: str, facts: dict[str, Any], who: str = "controller"
    ) -> None:
        self._audit.append(at=now.isoformat(timespec="seconds"), who=who, what=what, why=why, event=event, facts=facts)

    def _who(self, wish: str | None) -> str:
        """Who is behind an act: the person whose wish it serves, or this controller."""
        return "controller" if wish is None else self._observer.people.get(wish, "a person")

    def _start(self, action: a.StartRun, now: dt.datetime) -> None:
        model, recipe = self._settings.model, self._observer.recipe()
        known = {run.number: run for run in self._journal.runs(model)}
        if action.number not in known:
            self._journal.intend(
                Run(
                    run_id=f"{model}-{action.number:04d}-{recipe[:8]}",  # the store may be older than the journal
                    model=model,
                    number=action.number,
                    recipe=recipe,
                    reason=action.reason,
                    created=now.isoformat(timespec="seconds"),
                    wish=action.wish,
                    asked=None if action.window is None else self._asked(action),
                )
            )
            hit("run-intended")
            known = {run.number: run for run in self._journal.runs(model)}
            if self._observer.loop is not None and self._observer.loop.retraining.budget.runs is not None:
                return  # whose turn it is shows at the next look
        run = known[action.number]
        if run.asked is not None:
            facts = {"run_id": run.run_id, **run.asked}
            self._tell(now, "retraining", run.reason, f"run:{run.run_id}", facts, self._who(run.wish))
        if not self._journal.claim(run.run_id, action.attempts, self._machine.now()):
            return
        hit("run-claimed")
        pid = self._runs.start(run.run_id, self._intent(run))
        hit("run-started")
        self._journal.started(run.run_id, pid)

    def _asked(self, action: a.StartRun) -> dict[str, Any]:
        """What a retraining learns from and is compared with."""
        loop, found = self._observer.loop, self._inquiries and self._inquiries.answer("verdicts")
        assert loop is not None and action.window is not None
        return {
            "window": action.window.model_dump(mode="json"),
            "holdout": loop.gates.holdout,
            "champion": self._observer.chain[-1].champion,
            "exclude": sorted((found.body or {}).get("quarantined", ())) if found else [],
            "refit": loop.gates.refit,
            "slices": list(loop.monitoring.slices),
            "backtest": loop.gates.backtest,
            "kpi": loop.monitoring.kpi,
        }

    def _intent(self, run: Run) -> dict[str, Any]:
        settings = self._settings
        asked = {name: value for name, value in (run.asked or {}).items() if value is not None}
        return {
            "run_id": run.run_id,
            "project": settings.project,
            "project_folder": str(settings.project_folder),
            "store": settings.store,
            "cache": str(settings.cache),
            "node_address": settings.node_address,
            "facts": {**settings.facts, **commit(settings.checkout), **lock(settings.checkout)},
            **asked,
        }

    def _publish(self, action: a.Publish, now: dt.datetime) -> None:
        model, newest = self._settings.model, self._observer.chain[-1] if self._observer.chain else None
        bundles.manifest(self._store, action.bundle)  # raises rather than release what is not there
        what = action.outcome or ("stage" if action.step is not None else "released")
        facts = {"champion": action.bundle, "arm": action.arm, "run_id": action.candidate, "step": action.step}
        # A controller killed here may decide otherwise when it comes back: that Release has an entry of its own.
        event = f"release:{action.number}:{digest_of({'what': what, **facts})[:16]}"
        self._tell(now, what, action.reason, event, facts, self._who(action.wish))
        hit("release-audited")
        arms = () if action.arm is None else (self._arm(action.arm, action.step),)
        stage = arms[0].kind if action.step is not None and arms else "watch" if arms else "live"
        release = releases.Release(
            model=model,
            number=action.number,
            champion=action.bundle,
            arms=arms,
            warm=action.warm or (newest.warm if newest and newest.champion == action.bundle else ()),
            stage=stage,
            step=action.step,
            candidate=action.candidate,
            outcome=action.outcome,
            wish=action.wish,
            audit=self._audit.head(),
            reason=action.reason,
            created=now.isoformat(timespec="seconds"),
            previous=releases.stored_digest(self._store, model, action.number - 1),
        )
        if releases.publish(self._store, release, self._key):
            log.info("released", number=release.number, bundle=release.champion, stage=release.stage)
        hit("release-published")

    def _arm(self, bundle: str, step: int | None) -> releases.Arm:
        assert self._observer.loop is not None
        rollout = self._observer.loop.rollout
        stage = StageSpec(kind="shadow") if step is None else rollout.stages[step]
        return releases.Arm(
            bundle=bundle,
            kind=stage.kind,
            share=stage.share,
            key=rollout.key,
            fuse=rollout.fuse,
            timeout=rollout.timeout,
            memory=rollout.memory,
        )

    def _project(self, action: a.Project) -> None:
        result = self._observer.result(action.run_id) or {}
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
