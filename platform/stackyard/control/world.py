"""What a decision may depend on: the world as plain, immutable values.

Everything here was read from the store and the journal; nothing was remembered by the process that reads it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from stackyard.spec.loop import GatesSpec, MonitoringSpec, RetrainingSpec, RolloutSpec


@dataclass(frozen=True)
class RunSeen:
    """One training run as the world shows it."""

    run_id: str
    number: int
    """The intent's number, from 1: the version of what it makes."""
    recipe: str
    """Digest of what was to be trained."""
    state: Literal["pending", "running", "succeeded", "failed"]
    """`pending`: intended, no living process, no result."""
    ended: dt.datetime | None = None
    bundle: str | None = None
    reason: str | None = None
    projected: bool = False
    """Whether MLflow shows it."""
    attempts: int = 0
    """How often a process was started for it."""
    started: dt.datetime | None = None
    """When the newest of them was, on the machine's clock."""
    created: dt.datetime | None = None
    """When it was intended, on the model's clock."""
    challenger: bool = False
    """Whether it retrains a champion; the first model does not."""
    trial: str | None = None
    """Digest of the bundle that its gate judges."""
    data_end: dt.date | None = None
    """The day after the newest row that it learnt from."""
    cpu_hours: float = 0.0
    gpu_hours: float = 0.0
    wish: str | None = None
    """The person's wish that asked for it."""
    queued: str | None = None
    """Why it waits for its turn among the runs of other models; None: it does not."""


@dataclass(frozen=True)
class ReleaseSeen:
    """One Release of the chain."""

    number: int
    champion: str
    stage: str = "live"
    step: int | None = None
    arm: str | None = None
    """Digest of the challenger's bundle."""
    candidate: str | None = None
    outcome: str | None = None
    wish: str | None = None
    created: dt.datetime | None = None


@dataclass(frozen=True)
class GateSeen:
    """What the gates said of one candidate."""

    passed: bool
    reason: str
    digest: str
    champion: str | None = None
    """Digest of the bundle that it was compared with."""


@dataclass(frozen=True)
class Answer:
    """What was found out beside the loop. `key` says what was asked; `body` is the answer, None while it is awaited."""

    key: str
    body: Mapping[str, Any] | None = None
    failure: str | None = None
    """Why there is no answer; it is asked again."""


@dataclass(frozen=True)
class Wishes:
    """What people want now, after all that they said."""

    paused: str | None = None
    """Why nothing is to be started, or None."""
    train: Mapping[str, str] = field(default_factory=dict)
    """Wish to reason: retrainings asked for by hand, oldest first."""
    rollback: Mapping[str, tuple[str | None, str]] = field(default_factory=dict)
    """Wish to (bundle to return to or None, reason)."""
    promote: Mapping[str, str] = field(default_factory=dict)
    """Run id to reason."""
    rejected: Mapping[str, str] = field(default_factory=dict)
    """Run id to reason."""
    released: frozenset[dt.date] = frozenset()
    """Quarantined days that are to be believed after all."""


@dataclass(frozen=True)
class Loop:
    """The project's rules of the loop."""

    monitoring: MonitoringSpec = field(default_factory=MonitoringSpec)
    retraining: RetrainingSpec = field(default_factory=RetrainingSpec)
    gates: GatesSpec = field(default_factory=GatesSpec)
    rollout: RolloutSpec = field(default_factory=RolloutSpec)
    data_start: dt.date = dt.date.min
    """The first day there is data of."""
    approvals: int = 0
    """Signatures that a promotion needs."""


@dataclass(frozen=True)
class World:
    """Everything a decision may depend on."""

    model: str
    recipe: str
    """Digest of the recipe that the spec asks for now."""
    champion: str | None
    """Digest of the live bundle, if there is one."""
    release: int
    """Number of the newest Release; 0 when there is none."""
    runs: Sequence[RunSeen]
    """Oldest first."""
    mlflow: bool = False
    """Whether there is an MLflow to show things in."""
    loop: Loop | None = None
    """None: only the first champion is made; nothing is watched."""
    chain: Sequence[ReleaseSeen] = ()
    """Every Release, oldest first."""
    gates: Mapping[str, GateSeen] = field(default_factory=dict)
    """Run id to the verdict of its gates."""
    approved: Mapping[str, int] = field(default_factory=dict)
    """Run id to the number of valid signatures."""
    wishes: Wishes = field(default_factory=Wishes)
    verdicts: Answer | None = None
    """The newest answer about the champion's evidence."""
    stage: Answer | None = None
    """The newest answer about the rollout under way."""
    gating: Answer | None = None
    """The question about a candidate's gates that is open."""
    machine: dt.datetime | None = None
    """The machine's own time, by which processes are tried again; None: the model's clock is the machine's."""
