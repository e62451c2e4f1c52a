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
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stackyard.rehearsals import away
from stackyard.rehearsals.cluster import Cluster, Silent
from stackyard.rehearsals.course import Course, RehearsalError
from stackyard.rehearsals.faults import BECAUSE, FaultError, resume
from stackyard.rehearsals.judging import Check, Measured, Scenario, judge
from stackyard.spec.leases import RehearsalSpec
from stackyard.store import trainings

_END = 20.0
"""Seconds for a training to end once its job was told to."""


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
                measured, notes = Course(cluster, say).through(scenario, objective)
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
    if told.get("scenario") == "lease-end" and _suspended_by_us(cluster):
        resume(cluster)
    with contextlib.suppress(Silent):
        for job in cluster.jobs():
            if job.startswith(told["name"]):
                cluster.stop(job)
    end = time.monotonic() + _END
    while living := [each for _, each in trainings.announced(cluster.trainings) if each.name == told["name"]]:
        for each in living if time.monotonic() > end - _END + 5 else []:
            if trainings.is_here(each):  # else its pid, of before a reboot, is somebody else's by now
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each.pid, signal.SIGKILL)
        if time.monotonic() > end:
            raise RehearsalError(f"the rehearsed training (pid {living[0].pid}) does not end")
        time.sleep(0.1)
    with contextlib.suppress(Silent):  # Ray says so a little later, and who comes next would take it for somebody's
        while time.monotonic() < end and any(job.startswith(told["name"]) for job in cluster.jobs()):
            time.sleep(0.1)
    shutil.rmtree(cluster.workspace / told["name"], ignore_errors=True)
    record.unlink()


def _suspended_by_us(cluster: Cluster) -> bool:
    """Whether a rehearsal suspended it: what its lease or a person ended since stays as it is."""
    try:
        return json.loads((cluster.folder / "suspended.json").read_bytes())["because"] == BECAUSE
    except (OSError, ValueError, TypeError, KeyError):
        return False


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
    """SIGTERM and a closed terminal end the block as Ctrl-C does, so that it is cleared away."""

    def end(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
