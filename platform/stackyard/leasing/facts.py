"""What is known of one leased cluster when somebody asks whether it has to end: all that a decision is made from.

Read by `folder`, decided on by `deciding`. What lies in files is read as it was written by earlier and later versions:
unknown fields are passed over.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from stackyard.spec.leases import LeaseBudgetSpec, LeaseSpec

Reason = Literal["end", "ttl", "budget", "hours", "idle", "orphan", "asked"]
"""Why a cluster is suspended. `end`, `ttl` and `budget` last until the lease says otherwise, `hours` until the next
span begins, the others until a person resumes it."""
BY_PEOPLE: frozenset[str] = frozenset({"idle", "orphan", "asked"})
"""Suspended for these, only a person resumes it."""


class _Stored(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Instance(_Stored):
    """Which instance lives in the workspace (`instance.json`)."""

    instance: str
    generation: int = 0
    sealed: bool = True
    opened: AwareDatetime | Literal[""] = ""
    """When it was opened first; "" before that."""


class Suspension(_Stored):
    """That it is, or is being, suspended (`suspended.json`)."""

    version: int = 1
    instance: str
    generation: int
    reason: Reason
    because: str
    at: AwareDatetime
    whole: bool
    """Whether everything was saved and verified."""
    saved: int | None = None
    """The newest version's number."""


class Extension(_Stored):
    """One `stackyard lease extend`."""

    at: AwareDatetime
    by: str
    seconds: float = Field(gt=0, allow_inf_nan=False)
    because: str


class Used(_Stored):
    """That its processes were started, or ended (a line of `usage.jsonl`)."""

    at: AwareDatetime
    what: Literal["opened", "closed"]
    generation: int = 0
    workers: int = 0
    cpus: float = 0
    gpus: float = 0
    hourly_price: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class Seen(_Stored):
    """When it was last seen running (`seen.json`)."""

    generation: int
    at: AwareDatetime
    ended: dict[str, AwareDatetime] = {}
    """Openings that were never closed, by their time, and when they were last seen running."""


class Signal(_Stored):
    """One way in which it may be in use (`idle.json`)."""

    name: str
    known: bool
    """False where it could not be asked: then nobody may say that the cluster is idle."""
    busy: bool = False
    used: AwareDatetime | None = None
    """The last use that was ever seen; None: none."""
    because: str = ""


class Told(_Stored):
    """One warning that was given (`told.json`)."""

    before: float
    """Seconds before the end of which it warns."""
    reason: Reason
    end: AwareDatetime
    at: AwareDatetime
    because: str
    silent: bool = False
    """Passed over, since a more urgent one was due at the same time."""


@dataclass(frozen=True)
class Lease:
    """How long it is lent, to whom, and how it is ended and started (`lease.json`)."""

    terms: LeaseSpec
    budget: LeaseBudgetSpec
    owner: str
    tell: tuple[str, ...]
    """Secrets that hold where the owner is told."""
    every: float
    """Seconds from one save to the next."""
    stack: str
    stack_id: str
    suspend: tuple[str, ...]
    resume: tuple[str, ...]
    dashboard: str | None = None
    notebook: str | None = None
    ray_token: str | None = None
    notebook_token: str | None = None
    clock: str | None = None
    """The file of the stack's virtual clock; None: the machine's own."""


@dataclass(frozen=True)
class Facts:
    """One look at a cluster."""

    cluster: str
    lease: Lease | None = None
    instance: Instance | None = None
    sealed: bool = False
    """Whether an evacuation ended: a receipt lets it go, and nothing of it runs."""
    foreign: str | None = None
    """Why it is not ours; then nobody touches it."""
    suspended: Suspension | None = None
    extensions: tuple[Extension, ...] = ()
    usage: tuple[Used, ...] = ()
    seen: Seen | None = None
    signals: tuple[Signal, ...] = ()
    resumed: dt.datetime | None = None
    """When a person last resumed it, which counts as use."""
    running: bool = False
    """Whether a process carries its tag."""
    told: tuple[Told, ...] = ()
    holds: tuple[str, ...] = ()
    """Why nothing may be ended or resumed by the clock now: each a sentence."""
    notes: tuple[str, ...] = ()
    """Other things that are not as they should be."""

    @property
    def opened(self) -> dt.datetime | None:
        """When the instance was opened first."""
        return None if self.instance is None or self.instance.opened == "" else self.instance.opened


def plain(model: BaseModel) -> dict[str, Any]:
    """As JSON."""
    return model.model_dump(mode="json")
