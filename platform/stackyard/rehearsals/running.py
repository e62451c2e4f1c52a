"""One rehearsal from its start to its verdict: a training begins, a fault comes, and it is measured what that cost.

The training is a Ray job on the cluster like anybody's, in a folder of its own in the workspace. What has to be put
right again is written down before it is done (`rehearsing.json` beside the workspace), so a rehearsal that was killed
anywhere leaves nothing that the next one does not take away, and a store that is moved aside comes back by itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stackyard.rehearsals import away
from stackyard.rehearsals.cluster import Cluster, Silent
from stackyard.rehearsals.faults import FAULTS, Fault, FaultError, resume
from stackyard.rehearsals.judging import Check, Measured, Scenario, judge
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


class BusyError(RehearsalError):
    """Somebody works there, or another rehearsal runs."""


@dataclass(frozen=True)
class Rehearsed:
    """What came of it."""

    scenario: Scenario
    at: str
    measured: Measured
    checks: list[Check]
    notes: dict[str, Any]
    """What else is worth knowing of this fault."""

    @property
    def held(self) -> bool:
        """Whether every objective was held."""
        return all(each.held for each in self.checks)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        checks = [asdict(each) for each in self.checks]
        told = {"scenario": self.scenario, "at": self.at, "held": self.held}
        return {**told, "measured": asdict(self.measured), "checks": checks, "notes": self.notes}


def rehearse(
    cluster: Cluster, scenario: Scenario, objective: RehearsalSpec, *, yes: bool, say: Callable[[str], None]
) -> Rehearsed:
    """Do it. Raises BusyError, RehearsalError; then everything is as it was."""
    with _alone(cluster):
        _cleared(cluster)
        if (others := somebodys(cluster)) and not yes:
            raise BusyError(f"somebody works on {cluster.settings.cluster} ({'; '.join(others)}): --yes rehearses it")
        at = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
        try:
            with _ended_kindly():
                measured, notes = Run(cluster, say).through(scenario, objective)
        except FaultError as error:
            raise RehearsalError(str(error)) from None
        finally:
            _cleared(cluster)
        result = Rehearsed(scenario, at, measured, judge(measured, objective), notes)
        _keep(cluster, result)
        return result


def clear(cluster: Cluster) -> None:
    """Take away what a rehearsal left, this one or one that was killed; the store first. Raises FaultError,
    RehearsalError for what cannot be put right now; the next tries again."""
    away.put_back(cluster.folder / "store-away.json")
    record = cluster.folder / "rehearsing.json"
    try:
        told = json.loads(record.read_text())
    except FileNotFoundError:
        return
    except ValueError:  # killed while it was written: nothing was begun
        record.unlink()
        return
    if told.get("scenario") == "lease-end" and (cluster.folder / "suspended.json").exists():
        resume(cluster)
    with contextlib.suppress(Silent):
        for job in cluster.jobs():
            if job.startswith(told["name"]):
                cluster.stop(job)
    end = time.monotonic() + 20
    while living := [each for each in cluster.training(told["name"]) if trainings.lives(each)]:
        for each in living if time.monotonic() > end - 15 else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)
        if time.monotonic() > end:
            raise RehearsalError(f"the rehearsed training (pid {living[0].pid}) does not end")
        time.sleep(_LOOK)
    shutil.rmtree(cluster.workspace / told["name"], ignore_errors=True)
    record.unlink()


def _cleared(cluster: Cluster) -> None:
    try:
        clear(cluster)
    except FaultError as error:
        raise RehearsalError(f"what a rehearsal left cannot be put right now: {error}") from None


def somebodys(cluster: Cluster) -> list[str]:
    """Work on the cluster that is none of a rehearsal's, a line each. Raises RehearsalError when nobody can tell."""
    try:
        jobs = cluster.jobs()
    except Silent as error:
        raise RehearsalError(f"Ray of {cluster.settings.cluster} is not to be asked: {error}") from None
    living = [each for _, each in trainings.announced(cluster.trainings)]
    found = [f"Ray job {name} is {status.lower()}" for name, status in jobs.items()]
    found += [f"training {each.name} is at step {each.step}" for each in living]
    return found + [f"a notebook's kernel ({name}) is open" for name in cluster.kernels()]


class Run:
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


@contextlib.contextmanager
def _alone(cluster: Cluster) -> Iterator[None]:
    with (cluster.folder / "rehearsing.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"another rehearsal on {cluster.settings.cluster} runs") from None
        yield


@contextlib.contextmanager
def _ended_kindly() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that it is cleared away."""

    def end(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _keep(cluster: Cluster, result: Rehearsed) -> None:
    """Note the result as the last of its kind."""
    path = cluster.folder / "rehearsals.json"
    try:
        kept = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        kept = {"version": 1, "last": {}}
    kept["last"][result.scenario] = result.plain()
    scratch = Path(f"{path}.{os.getpid()}")
    scratch.write_text(json.dumps(kept, indent=1))
    scratch.replace(path)
