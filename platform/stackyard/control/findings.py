"""What the worker finds out, kind by kind: days, verdicts, gates, stages; `stackyard.control.worker` says how to ask.

Runs in the worker's process alone, which has no keys. Answers are plain JSON values.
"""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from stackyard.control import gates, rollout, stage_evidence
from stackyard.control.proof import CandidateFacts, HoldoutTable
from stackyard.control.stage_facts import StageSeen
from stackyard.control.worker import WorkerSettings
from stackyard.data.quality import judge_freshness
from stackyard.monitoring import verdicts
from stackyard.monitoring.evidence import DayEvidence, Evidence
from stackyard.monitoring.logs import Files, days_between
from stackyard.monitoring.quarantine import JudgedDay, Quarantine
from stackyard.monitoring.stage_rows import StageKey
from stackyard.monitoring.stages import Stage
from stackyard.monitoring.verdicts import DayQuality, Verdicts
from stackyard.spec import plain
from stackyard.spec.models import ProjectSpec
from stackyard.store import bundles, layout, releases
from stackyard.store.objects import Store, sha256

_DAY = dt.timedelta(days=1)
Released = Mapping[str, str] | tuple[()]
"""Days that a person let go, and when."""
LOOK_BACK = 28
"""Days beyond those that verdicts need, so that they know longer since when."""


class UnknownQuestionError(ValueError):
    """A kind of question that nobody answers, or a thing that is not there."""


@dataclass
class Findings:
    """Answers questions about one model. Not for several threads."""

    settings: WorkerSettings
    project: ProjectSpec
    store: Store
    _stages: dict[tuple[int, str], Stage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        cache, monitoring = self.settings.cache, self.project.monitoring
        self._evidence = Evidence(self.store, self.settings.model, monitoring, cache)
        self._quarantine = Quarantine(self._evidence)

    @classmethod
    def of(cls, settings: WorkerSettings) -> Findings:
        """From the settings file."""
        return cls(settings, plain.load(ProjectSpec, settings.project), Store.open(settings.store))

    def answer(self, kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The answer to one question. Raises whatever goes wrong."""
        kinds = {"days": self.days, "verdicts": self.verdicts, "gate": self.gate, "stage": self.stage}
        if kind not in kinds:
            raise UnknownQuestionError(f"nobody answers {kind!r}")
        with self._evidence.files.listed_once():
            return kinds[kind](**arguments)

    def days(self, days: Sequence[str], champion: str, now: str, released: Released = ()) -> dict[str, Any]:
        """The summaries of `days` and what speaks against them."""
        at, asked = _time(now), sorted(dt.date.fromisoformat(day) for day in days)
        judged = {one.day: one for one in self._judged(max(asked) + _DAY, champion, at, released)} if asked else {}
        found = {}
        for day in asked:
            quality = judged[day].plain() if day in judged else {"day": day.isoformat(), "findings": []}
            told = self._evidence.day(day, champion, at).plain()
            found[day.isoformat()] = {**told, "quality": quality, "quarantined": bool(quality.get("quarantined"))}
        return {"days": found}

    def verdicts(
        self, until: str, champion: str, now: str, released: Released = (), data_end: str | None = None
    ) -> dict[str, Any]:
        """Everything that is said of the champion from the days before `until`."""
        at, end, spec = _time(now), dt.date.fromisoformat(until), self.project.monitoring
        yardstick = self._evidence.yardstick(champion)
        judged = self._judged(end, champion, at, released)
        quarantined = [one.day for one in judged if one.quarantined]
        learnt = data_end or yardstick.data_end or self.project.data.window.end.isoformat()
        since = end - (verdicts.days_needed(spec) + LOOK_BACK) * _DAY
        since = min(since, dt.date.fromisoformat(learnt))
        first = judged[0].day if judged else end
        days = [self._evidence.day(day, champion, at) for day in days_between(max(first, since), end - _DAY)]
        said = verdicts.judge(
            [summary for day in days for summary in day.summaries],
            yardstick.reference,
            yardstick.figures,
            yardstick.task,
            spec,
            at,
            quarantined,
            bundle=champion,
            quality=[DayQuality(one.day, one.findings) for one in judged],
        )
        labelled = self._labelled_until(days, end, at)
        newest = max((day.day for day in days if _labelled(day)), default=None)
        stale = judge_freshness(newest, end, spec.label_delay, spec.quality)
        return {
            **said.plain(),
            **_alarms(said),
            "until": until,
            "champion": champion,
            "labelled_until": labelled.isoformat(),
            "new_rows": _new_rows(days, learnt, labelled, quarantined),
            "quarantined": [day.isoformat() for day in quarantined],
            "released": [one.day.isoformat() for one in judged if one.released and one.findings],
            "freshness": None if stale is None else stale.plain(),
            "champion_data_end": yardstick.data_end,
            "release_figures": yardstick.figures,
            "troubles": {day.day.isoformat(): day.troubles for day in days if day.troubles},
        }

    def gate(self, run_id: str, released: Released = ()) -> dict[str, Any]:
        """What the gates say of the candidate of a run; the resamples are drawn by its id."""
        project = self.project
        try:
            result = json.loads(self.store.read(layout.run(run_id, "result.json")))
            raw = self.store.read(layout.run(run_id, "holdout.parquet"))
        except KeyError as error:
            raise UnknownQuestionError(f"run {run_id} has no {error}") from None
        promised = (result.get("holdout") or {}).get("sha256")
        if promised is not None and promised != sha256(raw):
            raise UnknownQuestionError(f"the held-out rows of run {run_id} are not those that it wrote")
        table = HoldoutTable.of(pl.read_parquet(io.BytesIO(raw)))
        rng = np.random.default_rng(int(sha256(run_id.encode())[:16], 16))
        report = gates.judge(project.gates, project.monitoring, project.task, table, CandidateFacts.of(result), rng)
        return report.plain()

    def stage(
        self, release: int, now: str, step: int | None = None, watch: bool = False, released: Released = ()
    ) -> dict[str, Any]:
        """The verdict on the stage that Release number `release` began, or on the promotion that it was."""
        at, project = _time(now), self.project
        live = self._release(release)
        if not live.arms or live.step != step or watch != (live.stage == "watch"):
            raise UnknownQuestionError(f"release {release} has no challenger in stage {step}")
        arm = live.arms[0]
        key = StageKey(release, arm.kind, arm.bundle, dt.datetime.fromisoformat(live.created), arm.key)
        yardstick = self._evidence.yardstick(live.champion)
        if (release, arm.bundle) not in self._stages:
            files = Files(self.store, self.settings.model, held_bytes=0)
            self._stages = {(release, arm.bundle): Stage(files, yardstick, key)}
        rows = self._stages[release, arm.bundle].gather(at, project.rollout.guards.latency)
        evidence, rng = stage_evidence.of(rows), np.random.default_rng(release)
        if step is None:
            verdict = rollout.watch(project.rollout, project.task, key.started, evidence, at, project.monitoring, rng)
        else:
            seen = StageSeen(step, arm.kind, key.started, routine=self._routine(live.champion, arm.bundle))
            verdict = rollout.decide(project.rollout, project.task, seen, evidence, at, project.monitoring, rng)
        return {
            **verdict.plain(),
            "figures": stage_evidence.figures(rows),
            "release": release,
            "step": step,
            "now": now,
        }

    def _judged(self, until: dt.date, champion: str, now: dt.datetime, released: Released) -> list[JudgedDay]:
        let_go = {dt.date.fromisoformat(day): _time(when) for day, when in dict(released).items()}
        return self._quarantine.days(until, champion, now, let_go)

    def _labelled_until(self, days: Sequence[DayEvidence], end: dt.date, now: dt.datetime) -> dt.date:
        """The day after the newest one whose labels are due and have come; the oldest day while none have."""
        due = (now - dt.timedelta(seconds=self.project.monitoring.label_delay)).date()
        came = [day.day + _DAY for day in days if _labelled(day) and day.day + _DAY <= min(due, end)]
        return max(came, default=min([due, end, *(day.day for day in days)]))

    def _release(self, number: int) -> releases.Release:
        found = releases.history(self.store, self.settings.model, self.settings.trusted, after=number - 1)
        if not found:
            raise UnknownQuestionError(f"there is no release {number}")
        return found[0]

    def _routine(self, champion: str, challenger: str) -> bool:
        """Whether both were made by one recipe: the challenger then only has newer rows. What is not known is none."""
        one, two = (self._lineage(bundle) for bundle in (champion, challenger))
        if one.get("recipe") and two.get("recipe"):
            return one["recipe"] == two["recipe"]
        return all(one.get(name) is not None and one[name] == two.get(name) for name in ("code", "parameters"))

    def _lineage(self, bundle: str) -> dict[str, Any]:
        digest = bundles.manifest(self.store, bundle)["files"]["lineage.json"]["sha256"]
        return json.loads(self.store.read(layout.bundle_file(bundle, "lineage.json"), digest=digest))


def _time(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC)


def _labelled(day: DayEvidence) -> int:
    return sum(summary.labelled for summary in day.summaries if summary.arm in verdicts.ANSWERS)


def _new_rows(days: Sequence[DayEvidence], since: str, until: dt.date, quarantined: Sequence[dt.date]) -> int:
    start = dt.date.fromisoformat(since)
    return sum(_labelled(day) for day in days if start <= day.day < until and day.day not in quarantined)


def _alarms(said: Verdicts) -> dict[str, Any]:
    """The verdicts as the retrain policy asks: one text each, or None."""
    moved = [one for one in (said.drift, said.predictions, said.labels) if one.state == "alarm"]
    worse = said.performance if said.performance.state == "alarm" else None
    slices = "; ".join(one.reason for one in said.slices if one.state == "alarm")
    since = min((one.since for one in moved if one.since is not None), default=None)
    return {
        "metric_alarm": worse.reason if worse is not None else slices or None,
        "drift_alarm": "; ".join(one.reason for one in moved) or None,
        "shift_since": None if since is None else since.isoformat(),
    }
