"""A training on a leased cluster before, during and after a fault: begun, watched, kept going, and what that shows."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import sys
import time
from collections.abc import Callable
from typing import Any

from stackyard.rehearsals.cluster import Cluster, Silent
from stackyard.rehearsals.faults import FAULTS, Fault
from stackyard.rehearsals.judging import Measured, Scenario
from stackyard.spec.leases import RehearsalSpec
from stackyard.store import trainings
from stackyard.store.trainings import Announced

_BEGIN, _PATIENCE = 240.0, 300.0
"""Seconds for a training to begin, and to go on again beyond the objective: a machine that is busy takes its time."""
_STEPS, _EVERY, _PACE = 10**9, 20, 0.05
_LOOK, _AGAIN = 0.1, 2.0
"""Seconds between two looks at the training, and at its job."""


class RehearsalError(Exception):
    """A rehearsal that cannot be done; the message says why."""


class Course:
    """A training on the cluster, kept going as its owner would: a job that is gone is submitted again."""

    def __init__(self, cluster: Cluster, say: Callable[[str], None]) -> None:
        self.name, self._cluster, self._say = f"rehearsal-{secrets.token_hex(3)}", cluster, say
        self._jobs, self._next = 0, 0.0
        self._said = dict[tuple[int, int, str], Announced]()
        """What each life of the training said last."""

    def through(self, scenario: Scenario, objective: RehearsalSpec) -> tuple[Measured, dict[str, Any]]:
        """Begin, let the fault come, go on. Returns what it cost, and notes."""
        fault = FAULTS[scenario]
        told = json.dumps({"name": self.name, "scenario": scenario, "pid": os.getpid()})
        (self._cluster.folder / "rehearsing.json").write_text(told)
        self._say("a training begins")
        self._until(lambda: self._living(saved=2 * _EVERY), _BEGIN)
        files, seen = self._files(), self._cluster.evacuation("status")
        first = self._until(lambda: self._living(saved=0), _LOOK)
        if first is None:
            raise RehearsalError(f"the training did not begin within {_BEGIN:.0f} s; its job's log is Ray's")
        self._say(f"{fault.said}, at step {first.step}")
        went_on = list[float]()
        began = time.monotonic()

        def look() -> None:
            self._look()
            if not went_on and self._beyond(first, fault):
                went_on.append(time.monotonic() - began)

        happened = fault.happens(self._cluster, first, look)
        self._say("it is over; the training is awaited")
        later = self._until(lambda: self._beyond(first, fault), objective.resume + _PATIENCE)
        took = went_on[0] if went_on else None if later is None else time.monotonic() - began
        before = self._done(first) if fault.kills else first.step
        lost = None if later is None else max(0, before - later.began) if fault.kills else 0
        risk = seen.get("unsaved_bytes") if happened.at_risk is None else happened.at_risk
        gone = self._gone(files)
        if later is not None and fault.kills and later.began < first.saved:
            gone += self._size  # a checkpoint that was there is not to be used any more
        seconds = None if took is None else round(took, 2)
        return Measured(before, lost, seconds, risk, gone), {**happened.notes, "jobs": self._jobs}

    def _look(self) -> None:
        for each in self._cluster.training(self.name):
            self._said[each.pid, each.start, each.where] = each

    def _living(self, saved: int) -> Announced | None:
        """The training, once its checkpoint is of step `saved` or a later one."""
        self._look()
        there = [each for each in self._said.values() if each.saved >= saved and trainings.lives(each)]
        return max(there, key=lambda each: each.began, default=None)

    def _done(self, first: Announced) -> int:
        """The steps that the first life of the training did."""
        return self._said[first.pid, first.start, first.where].step

    def _beyond(self, first: Announced, fault: Fault) -> Announced | None:
        """The life of the training that did a step which was never done before."""
        self._look()
        mine = (first.pid, first.start, first.where)
        if not fault.kills:
            now = self._said[mine]
            return now if now.step > first.step else None
        there = [each for key, each in self._said.items() if key != mine and each.step > self._done(first)]
        return there[0] if there else None

    def _until(self, condition: Callable[[], Announced | None], seconds: float) -> Announced | None:
        """What the condition gives, while the job is kept going; None after `seconds`."""
        end = time.monotonic() + seconds
        while (found := condition()) is None and time.monotonic() < end:
            self._keep_going()
            time.sleep(_LOOK)
        return found

    def _keep_going(self) -> None:
        """Submit the job, unless it is there; a Ray that does not answer is asked again later."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _AGAIN
        try:
            if any(job.startswith(self.name) for job in self._cluster.jobs()):
                return
            folder = self._cluster.workspace / self.name
            told = ["--steps", str(_STEPS), "--every", str(_EVERY), "--pace", str(_PACE), "--name", self.name]
            command = [sys.executable, "-m", "stackyard.training.practice", str(folder), *told]
            self._cluster.submit(f"{self.name}-{self._jobs + 1}", shlex.join(command))
            self._jobs += 1
        except Silent:
            return

    def _files(self) -> dict[bytes, int]:
        """Everything in the workspace but the rehearsal's own: path -> bytes."""
        top, found = os.fsencode(self._cluster.workspace), dict[bytes, int]()
        for place, folders, files in os.walk(top):
            if place == top and os.fsencode(self.name) in folders:
                folders.remove(os.fsencode(self.name))
            for name in files:
                with contextlib.suppress(OSError):
                    path = os.path.join(place, name)
                    found[path] = os.lstat(path).st_size
        return found

    def _gone(self, files: dict[bytes, int]) -> int:
        """Bytes of files that are not there any more."""
        return sum(size for path, size in files.items() if not os.path.lexists(path))

    @property
    def _size(self) -> int:
        found = sorted((self._cluster.workspace / self.name).glob("*.checkpoint"))
        return found[-1].stat().st_size if found else 1
