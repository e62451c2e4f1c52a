"""Is what a rehearsed fault cost within what the spec allows? A function of its arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stackyard.spec.leases import RehearsalSpec
from stackyard.spec.units import duration_text

Scenario = Literal["preemption", "head-loss", "store-outage", "lease-end"]


@dataclass(frozen=True)
class Measured:
    """What a fault cost."""

    steps_before: int
    """Steps that were done when the fault came."""
    steps_lost: int | None
    """Of those, how many had to be done again; None: the training never went on."""
    resume: float | None
    """Seconds from the fault until a step was done that was never done before; None: that never happened."""
    at_risk: int | None
    """Bytes that were not saved when the fault came (store-outage: when it ended); None: nobody could tell."""
    bytes_lost: int
    """Bytes that were in the workspace when the fault came, and are not any more."""


@dataclass(frozen=True)
class Check:
    """One figure beside its limit."""

    name: str
    found: str
    limit: str
    """Empty where it is not judged."""
    held: bool


def judge(measured: Measured, objective: RehearsalSpec) -> list[Check]:
    """Each figure with its limit. What could not be measured holds no limit; a lost byte never does."""
    lost, resume, risk = measured.steps_lost, measured.resume, measured.at_risk
    return [
        Check(
            "steps lost",
            "the training never went on" if lost is None else str(lost),
            "" if objective.steps_lost is None else f"at most {objective.steps_lost}",
            lost is not None and (objective.steps_lost is None or lost <= objective.steps_lost),
        ),
        Check(
            "time to resume",
            "never" if resume is None else f"{resume:.1f} s",
            f"at most {duration_text(objective.resume)}",
            resume is not None and resume <= objective.resume,
        ),
        Check(
            "bytes at risk",
            "not known" if risk is None else str(risk),
            "" if objective.at_risk is None else f"at most {objective.at_risk}",
            objective.at_risk is None or (risk is not None and risk <= objective.at_risk),
        ),
        Check("bytes lost", str(measured.bytes_lost), "none", measured.bytes_lost == 0),
    ]
