"""What can befall a leased cluster, each done for real."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stackyard.rehearsals.cluster import Cluster
from stackyard.store.trainings import Announced

OUTAGE = 15.0
"""Seconds for which the store is away, besides what a save takes that finds it so."""
BECAUSE = "a rehearsed end of the lease"
"""Why a cluster is suspended by a rehearsal, and by nobody else."""
_WHOLE = 600.0
"""Seconds after which a store comes back in any case."""


class FaultError(Exception):
    """A fault that cannot be made; the message says why."""


@dataclass
class Happened:
    """A fault that came, and is over."""

    notes: dict[str, Any] = field(default_factory=dict[str, Any])
    at_risk: int | None = None
    """Bytes that were not saved at its end, where that is the worst moment."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault."""

    said: str
    """What a person reads when it comes."""
    happens: Callable[[Cluster, Announced, Callable[[], None]], Happened]
    """Given the training, and what sees to it that the training was looked at. Raises FaultError, OSError."""
    kills: bool = True
    """Whether the training's process ends with it."""


def preemption(cluster: Cluster, training: Announced, _look: Callable[[], None]) -> Happened:
    """kill -9 of the worker node on which the training runs."""
    part = cluster.part_of(training.pid)
    if part is None or not part.startswith("worker-"):
        raise FaultError(f"the training (pid {training.pid}) runs on no worker of {cluster.settings.cluster}")
    return Happened({"killed": part, "processes": cluster.kill(part)})


def head_loss(cluster: Cluster, _training: Announced, _look: Callable[[], None]) -> Happened:
    """kill -9 of the head: all that Ray knew of jobs and nodes is gone."""
    killed = cluster.kill("head")
    if not killed:
        raise FaultError(f"no process of the head of {cluster.settings.cluster} was found")
    return Happened({"killed": "head", "processes": killed})


def store_outage(cluster: Cluster, _training: Announced, look: Callable[[], None]) -> Happened:
    """The store's folder is moved aside for a while. It comes back whatever becomes of us."""
    store = cluster.settings.local_store
    if store is None or not Path(store).is_dir():
        raise FaultError(f"the store {cluster.settings.store} is no folder here: only a folder can be moved aside")
    record = cluster.folder / "store-away.json"
    module = [sys.executable, "-P", "-m", "stackyard.rehearsals.away", str(record), str(_WHOLE)]
    with subprocess.Popen(
        module, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as keeper:  # whose end closes the pipe, which brings the store back
        assert keeper.stdin is not None and keeper.stdout is not None
        keeper.stdin.write(f"{store}\n")
        keeper.stdin.flush()
        if keeper.stdout.readline() != "away\n":
            raise FaultError(f"the store {store} cannot be moved aside")
        gone = time.monotonic()
        look()
        refused = cluster.evacuation("save")
        while time.monotonic() < gone + OUTAGE:
            time.sleep(0.2)
            look()
        risk = cluster.evacuation("status").get("unsaved_bytes")
        seconds = time.monotonic() - gone
        keeper.stdin.close()
        made = keeper.stdout.readline().strip()
    back = time.monotonic()
    saved = cluster.evacuation("save")
    notes = {
        "away": round(seconds, 1),
        "save_while_away": refused.get("code") or ("ok" if refused.get("ok") else "failed"),
        "saved_again": round(time.monotonic() - back, 1) if saved.get("ok") else None,
    } | ({"store_made_meanwhile": made} if made else {})
    return Happened(notes, risk)


def lease_end(cluster: Cluster, _training: Announced, look: Callable[[], None]) -> Happened:
    """The reaper suspends the cluster as at its lease's end, and a person resumes it."""
    began = time.monotonic()
    _leasing(cluster, "suspend", "--because", BECAUSE)
    suspended = time.monotonic()
    look()
    resume(cluster)
    asked = cluster.evacuation_asked()
    notes = {"suspend": round(suspended - began, 1), "resume": round(time.monotonic() - suspended, 1)}
    return Happened({**notes, "answered": [each["name"] for each in asked if each["answered"]]})


def resume(cluster: Cluster) -> None:
    """Start a cluster again whose end was rehearsed. Raises FaultError."""
    _leasing(cluster, "resume", "--because", "the rehearsed end of the lease is over")


FAULTS: dict[str, Fault] = {
    "preemption": Fault("its worker node is killed", preemption),
    "head-loss": Fault("the head is killed", head_loss),
    "store-outage": Fault("the store is away", store_outage, kills=False),
    "lease-end": Fault("the lease ends", lease_end),
}


def _leasing(cluster: Cluster, verb: str, *more: str) -> None:
    module = [sys.executable, "-P", "-m", "stackyard.leasing", verb, str(cluster.folder), *more]
    done = subprocess.run(module, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise FaultError(f"`stackyard.leasing {verb}` failed (exit code {done.returncode}): {said}")
