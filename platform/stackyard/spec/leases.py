"""Clusters that are lent for a while: how big, until when, how often their work is saved, and who is told.

Every leased cluster ends, by its date or after its time to live. What was made on it does not.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from stackyard.spec.base import Spec
from stackyard.spec.names import Hours, SecretName, TimeZone
from stackyard.spec.units import Day, Duration, Size

Pattern = Annotated[str, StringConstraints(min_length=1, max_length=500)]
"""Names of files: `*` and `?` also match `/`; a pattern without `/` is held against the last part of a path."""

Person = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,100}$")]
"""Who is meant, on one line."""


Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class HoursSpec(Spec):
    """When a cluster may run; outside it is suspended, and goes on when the next span begins."""

    span: Hours
    """Hours of each day, such as 07:00-20:00; one that ends before it begins ends on the next day. Required."""

    days: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri")
    """Days on which the span begins. Absent: Monday to Friday."""

    timezone: TimeZone = "UTC"
    """An IANA time zone. Absent: UTC."""


class ExtensionSpec(Spec):
    """How far `stackyard lease extend` may go without a change of this file."""

    times: Annotated[int, Field(ge=1, le=100)] = 1
    """How often one opening of the cluster may be extended. Absent: once."""

    by: Duration = 604_800.0
    """By how much at the most each time. Absent: 7d."""


class LeaseSpec(Spec):
    """How long a cluster is lent."""

    end: Day | None = None
    """The last day, included (UTC). Absent: only `ttl` and `idle` end it. Up with an end in the past is refused."""

    ttl: Duration = 2_592_000.0
    """How long after it was opened it ends. Absent: 30d."""

    idle: Duration | None = None
    """How long nobody may use it before it is suspended. Absent: that is not watched."""

    grace: Duration = 86_400.0
    """How long saving is tried again after the end while the store is away, before it is suspended. Absent: 1d."""

    hours: HoursSpec | None = None
    """Working hours; outside them it is suspended. Absent: it runs day and night."""

    extend: ExtensionSpec | None = None
    """What `stackyard lease extend` may do. Absent: nothing; a later end is written here."""

    warn: tuple[Duration, ...] = (604_800.0, 259_200.0, 86_400.0, 3_600.0)
    """How long before the end its owner is warned. Absent: 7d, 3d, 1d and 1h."""


class SaveSpec(Spec):
    """How the workspace is saved."""

    every: Duration = 300.0
    """From the start of one save to the start of the next: what may be lost at the most. Absent: 5m."""

    include: tuple[Pattern, ...] = ()
    """Patterns saved whatever `exclude` and `largest` say. Absent: none."""

    exclude: tuple[Pattern, ...] = ()
    """Patterns left out; they are listed, and lost with the workspace. Absent: everything is saved."""

    largest: Size | None = None
    """A larger file is left out, and listed. Absent: none is too large."""

    encrypt: bool = False
    """Whether contents and names are encrypted in the store, with a key of this stack's. Absent: they are not."""


class LeaseBudgetSpec(Spec):
    """What a leased cluster may cost."""

    money: Annotated[float, Field(gt=0)] | None = None
    """The most it may cost until it is suspended. Absent: no limit. Needs `hourly_price`."""

    hourly_price: Annotated[float, Field(ge=0)] = 0.0
    """What an hour of the whole cluster costs, in the currency of `money`. Absent: 0."""


class RehearsalSpec(Spec):
    """What `stackyard rehearse` holds the cluster to."""

    steps_lost: Annotated[int, Field(ge=0)] | None = None
    """Steps of a training that may be done again after a fault. Absent: not judged."""

    resume: Duration = 300.0
    """From the fault until the training goes on. Absent: 5m."""

    at_risk: Size | None = None
    """Bytes that were not saved when the fault came. Absent: not judged."""


class CeilingSpec(Spec):
    """What all open leased clusters of this user on this machine may come to, whichever stack they are of."""

    clusters: Annotated[int, Field(ge=1)] = 8
    """Open clusters. Absent: 8."""

    cpus: Annotated[int, Field(ge=1)] | None = None
    """CPUs of all their workers. Absent: not limited."""

    gpus: Annotated[int, Field(ge=0)] | None = None
    """GPUs of all their workers. Absent: not limited."""


class LeasedClusterSpec(Spec):
    """A Ray cluster with a workspace, lent for a while."""

    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Ray workers beside the head. Absent: 1."""

    cpus: Annotated[int, Field(ge=1, le=1024)] = 1
    """CPUs of each worker; the head has none. Absent: 1."""

    gpus: Annotated[int, Field(ge=0, le=64)] = 0
    """GPUs of each worker. Absent: 0; none where target is local."""

    lease: LeaseSpec = LeaseSpec()
    """How long it is lent. Absent: 30 days."""

    save: SaveSpec = SaveSpec()
    """How its workspace is saved. Absent: everything, every 5 minutes."""

    owner: Person
    """Who is told before it ends. Required."""

    tell: tuple[SecretName, ...] = ()
    """Where the owner is told: secrets that hold Apprise URLs. Absent: only where `alerts.owners.platform` says."""

    budget: LeaseBudgetSpec = LeaseBudgetSpec()
    """What it may cost. Absent: no limit."""

    rehearsal: RehearsalSpec = RehearsalSpec()
    """What a rehearsed fault may cost. Absent: training goes on within 5 minutes."""

    data: bool = True
    """Whether the project's code and data are put into a workspace that is opened empty. Absent: they are."""

    notebook: bool = False
    """Whether JupyterLab runs beside it, behind a token. Absent: it does not."""
