"""What the controller may do: values that say what and why; carrying them out needs no further choice."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from stackyard.spec.models import WindowSpec


@dataclass(frozen=True)
class StartRun:
    """Carry out run `number`; a run that was interrupted is taken up under the same number."""

    number: int
    reason: str
    window: WindowSpec | None = None
    """The rows of a retraining; None for the first model, and for a run that is taken up."""
    wish: str | None = None
    """The person's wish that this serves."""
    attempts: int = 0
    """How often a process was started for it when this was decided: whoever starts one more was first."""


@dataclass(frozen=True)
class Abandon:
    """Note that run `run_id` has failed: its process keeps dying without a result, or nobody wants one any more."""

    run_id: str
    reason: str


@dataclass(frozen=True)
class Publish:
    """Append Release `number`: `bundle` is the champion, `arm` the challenger beside it."""

    number: int
    bundle: str
    reason: str
    step: int | None = None
    """Index of the rollout's stage; with it goes `arm`."""
    arm: str | None = None
    """The challenger's bundle; without a stage it is the former champion, which is a shadow for a while."""
    candidate: str | None = None
    outcome: Literal["promoted", "stopped", "expired", "rolled_back"] | None = None
    warm: tuple[str, ...] = ()
    wish: str | None = None


@dataclass(frozen=True)
class Project:
    """Show a finished run in MLflow."""

    run_id: str
    champion: bool
    """Whether its bundle is the live one."""
    reason: str


@dataclass(frozen=True)
class Ask:
    """Have something found out beside the loop."""

    kind: Literal["verdicts", "gate", "stage"]
    key: str
    """The same question has the same key; it is asked once."""
    reason: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Propose:
    """Tell people that a retraining is due; they start it."""

    reason: str


@dataclass(frozen=True)
class Wait:
    """Do nothing; `until` says when time alone would change that."""

    reason: str
    until: dt.datetime | None = None
    pending: bool = False
    """Whether something is under way whose end must be seen before the model's clock may move on."""


Action = StartRun | Abandon | Publish | Project | Ask | Propose | Wait
