"""Reads the world: store, journal, processes and answers, as the values that decisions are made of.

What may never change (Releases, results, gate reports, wishes) is read once; everything else at every look.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from typing import Any

from stackyard.control import world as w
from stackyard.control.admission import Waiting, admit
from stackyard.control.candidates import OPEN, candidates
from stackyard.control.inquiries import Inquiries
from stackyard.control.journal import Journal, Run
from stackyard.control.local import LocalRuns
from stackyard.control.projector import Projector
from stackyard.control.settings import ControllerSettings
from stackyard.data import code
from stackyard.spec import plain
from stackyard.spec.loop import GatesSpec, MonitoringSpec, RetrainingSpec, RolloutSpec
from stackyard.spec.models import WindowSpec
from stackyard.store import approvals, inbox, layout, releases
from stackyard.store.documents import digest_of
from stackyard.store.objects import Store, sha256

DECIDES = ("name", "task", "data", "features", "training")
"""The sections of a project that decide what is trained."""
_SECTIONS = {"monitoring": MonitoringSpec, "retraining": RetrainingSpec, "gates": GatesSpec, "rollout": RolloutSpec}


class Observer:
    """One model's world."""

    def __init__(
        self,
        settings: ControllerSettings,
        *,
        store: Store,
        journal: Journal,
        runs: LocalRuns,
        projector: Projector,
        inquiries: Inquiries | None,
        trusted: list[str],
    ) -> None:
        self._settings, self._store, self._journal = settings, store, journal
        self._runs, self._projector, self._inquiries = runs, projector, inquiries
        self._trusted = trusted
        self._inbox = inbox.Inbox(store, settings.model, settings.operator_keys)
        self._documents: dict[str, bytes] = {}
        self._approvals: dict[str, tuple[tuple[approvals.Subject, tuple[str, ...]], int]] = {}
        self.chain: list[releases.Release] = []
        self.wanted = inbox.Wanted()
        self.people: dict[str, str] = {}
        """Wish to the name of whoever said it."""
        self.shown: list[str] = []
        """Runs whose versions MLflow shows."""
        self.projection_due: dict[str, dt.datetime] = {}
        self.loop = None if inquiries is None else _loop(settings)

    def look(self, now: dt.datetime, machine: dt.datetime) -> w.World:
        """The world as it is now."""
        model = self._settings.model
        after = self.chain[-1].number if self.chain else 0
        self.chain += releases.history(self._store, model, self._trusted, after=after)
        newest = self.chain[-1] if self.chain else None
        rows = self._journal.runs(model)
        self.shown = [run.run_id for run in rows if run.projected]
        seen = [self._run(run, machine) for run in rows]
        idle = newest is not None and not any(run.state == "pending" for run in seen)
        world = w.World(
            model=model,
            recipe="" if idle else self.recipe(),
            champion=None if newest is None else newest.champion,
            release=0 if newest is None else newest.number,
            runs=seen,
            mlflow=self._settings.mlflow is not None,
            machine=machine,
        )
        if self._inquiries is None or self.loop is None:
            return world
        served = {run.wish for run in rows if run.wish} | {each.wish for each in self.chain if each.wish}
        wishes = self._inbox.read()
        self.people = {wish.id: wish.by for wish in wishes}
        self.wanted = inbox.state(wishes, served, None if newest is None else newest.number)
        world = replace(
            world,
            runs=self._admitted(seen),
            loop=self.loop,
            chain=[_release(each) for each in self.chain],
            gates=self._gates(seen),
            wishes=_wishes(self.wanted),
            verdicts=self._inquiries.answer("verdicts"),
            stage=self._inquiries.answer("stage"),
            gating=self._inquiries.answer("gate"),
        )
        return replace(world, approved=self._approved(world)) if self.loop.approvals else world

    def recipe(self) -> str:
        """Digest of what the project would train now."""
        project = {name: self._settings.project.get(name) for name in DECIDES}
        return digest_of({"project": project, "code": code.archive(self._settings.project_folder)[1]})

    def result(self, run_id: str) -> dict[str, Any] | None:
        """The result of a run, or None while it has none."""
        raw = self._once(layout.run(run_id, "result.json"))
        return None if raw is None else json.loads(raw)

    def _once(self, key: str) -> bytes | None:
        """An object that never changes once it is there."""
        if key not in self._documents:
            try:
                self._documents[key] = self._store.read(key)
            except KeyError:
                return None
        return self._documents[key]

    def _run(self, run: Run, machine: dt.datetime) -> w.RunSeen:
        result = self.result(run.run_id) or {}
        if result:
            state = "succeeded" if result.get("status") == "succeeded" else "failed"
        else:
            state = "running" if self._runs.alive(run.run_id, run.pid) else "pending"
        # A projection that failed is tried again later, not at every step.
        waiting = self._projector.busy(run.run_id) or self.projection_due.get(run.run_id, machine) > machine
        ended = result.get("data_end")
        return w.RunSeen(
            run_id=run.run_id,
            number=run.number,
            recipe=run.recipe,
            state=state,
            ended=_ended(run, result) if result else None,
            bundle=result.get("bundle"),
            reason=result.get("reason"),
            projected=run.projected or waiting,
            attempts=run.attempts,
            started=_time(run.started),
            created=_time(run.created),
            challenger=run.asked is not None,
            trial=result.get("trial"),
            data_end=dt.date.fromisoformat(ended[:10]) if ended else self._window_end(run),
            cpu_hours=float(result.get("cpu_hours") or 0.0),
            gpu_hours=float(result.get("gpu_hours") or 0.0),
            wish=run.wish,
        )

    def _window_end(self, run: Run) -> dt.date | None:
        window = (run.asked or {}).get("window") or (self._settings.project.get("data") or {}).get("window")
        return None if window is None else dt.date.fromisoformat(window["end"])

    def _admitted(self, seen: list[w.RunSeen]) -> list[w.RunSeen]:
        """Pending runs wait for their turn where all models of the database may run only so many at once."""
        limit = None if self.loop is None else self.loop.retraining.budget.runs
        if limit is None or not any(run.state == "pending" for run in seen):
            return seen
        others = [run for run in self._journal.everyones() if self.result(run.run_id) is None]
        running = [run for run in others if self._runs.alive(run.run_id, run.pid)]
        waiting = [
            Waiting(run.model, dt.datetime.fromisoformat(run.created), run.reason)
            for run in others
            if run not in running
        ]
        _, queue = admit(waiting, len(running), limit)
        mine = next((each.reason for each in queue if each.model == self._settings.model), None)
        return [replace(run, queued=mine) if run.state == "pending" else run for run in seen]

    def _gates(self, seen: list[w.RunSeen]) -> dict[str, w.GateSeen]:
        found = {}
        for run in seen:
            raw = self._once(layout.gate(self._settings.model, run.run_id)) if run.challenger else None
            if raw is not None:
                report = json.loads(raw)
                rival = (report.get("subject") or {}).get("champion")
                found[run.run_id] = w.GateSeen(bool(report["passed"]), gate_reason(report), sha256(raw), rival)
        return found

    def _approved(self, world: w.World) -> dict[str, int]:
        """Approvals of the candidates that are open; they are verified when their listing or their subject changes."""
        approvers, plan = self._settings.approvals.get("approvers", {}), str(self._settings.facts.get("plan", ""))
        model, found = self._settings.model, dict[str, int]()
        for each in candidates(world):
            run, gate = each.run.run_id, each.gate
            if gate is None or each.state not in OPEN:
                continue
            subject = approvals.Subject(model=model, run_id=run, bundle=each.bundle, gate=gate.digest, plan=plan)
            listed = (subject, approvals.listed(self._store, model, run))
            known = self._approvals.get(run)
            if known is None or known[0] != listed:
                names = approvals.count(self._store, subject, approvers).names
                known = self._approvals[run] = (listed, len(names))
            found[run] = known[1]
        return found


def gate_reason(report: dict[str, Any]) -> str:
    """Why a gate report says what it says: the failed checks, or all passed."""
    failed = [str(check["reason"]) for check in report.get("checks", ()) if check.get("passed") is False]
    return (
        "; ".join(failed) if failed else f"{sum(1 for each in report.get('checks', ()) if each['passed'])} checks hold"
    )


def _loop(settings: ControllerSettings) -> w.Loop:
    sections = {
        name: plain.load(spec, settings.project[name]) for name, spec in _SECTIONS.items() if name in settings.project
    }
    window = (settings.project.get("data") or {}).get("window")
    start = plain.load(WindowSpec, window).start if window else dt.date.min
    return w.Loop(**sections, data_start=start, approvals=int(settings.approvals.get("required", 0)))


def _release(release: releases.Release) -> w.ReleaseSeen:
    return w.ReleaseSeen(
        number=release.number,
        champion=release.champion,
        stage=release.stage,
        step=release.step,
        arm=release.arms[0].bundle if release.arms else None,
        candidate=release.candidate,
        outcome=release.outcome,
        wish=release.wish,
        created=_time(release.created),
    )


def _wishes(wanted: inbox.Wanted) -> w.Wishes:
    def said(wish: inbox.Wish) -> str:
        return f"{wish.because} ({wish.by})"

    return w.Wishes(
        paused=None if wanted.paused is None else said(wanted.paused),
        train={wish.id: said(wish) for wish in wanted.train},
        rollback={wish.id: (wish.bundle, said(wish)) for wish in wanted.rollback},
        promote={run: said(wish) for run, wish in wanted.promote.items()},
        rejected={run: said(wish) for run, wish in wanted.rejected.items()},
        released=frozenset(wanted.released),
    )


def _ended(run: Run, result: dict[str, Any]) -> dt.datetime | None:
    started = _time(run.started)
    return None if started is None else started + dt.timedelta(seconds=result.get("seconds") or 0.0)


def _time(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text)
