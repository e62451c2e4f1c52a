"""What is known of a rollout's stage when it is judged: counts, sketches and labelled rows, whoever gathered them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from stackyard.data.sketches import Sketch

NOT_ASKED = ("fused", "dropped")
"""Outcomes of requests that a replica spared the challenger: no trials of it."""


@dataclass(frozen=True)
class ArmFacts:
    """What one arm did in a stage so far."""

    requests: int = 0
    """Requests that were its to answer: all of `outcomes`."""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    """Requests by outcome (`ok`, `error`, `timeout`, `died`, `not_finite`, `fused`, `dropped`)."""
    slow: int = 0
    """Answers that took longer than the champion's 99th percentile and `guards.latency`."""
    outputs: Sketch | Sequence[Sketch] | None = None
    """Its outputs in the bins of the reference; one for each output."""
    labelled: int = 0
    """Rows with a label."""
    labels: np.ndarray | None = None
    """[labelled]: labels of the rows that it alone answered; for `guards.metric`."""
    answers: np.ndarray | None = None
    """[labelled] or [labelled, outputs]: its outputs for them."""

    @property
    def tried(self) -> int:
        """Requests that it was asked, whatever came of them."""
        return self.requests - sum(self.outcomes.get(name, 0) for name in NOT_ASKED)

    @property
    def failures(self) -> int:
        """Requests that it was asked and did not answer soundly."""
        return sum(count for name, count in self.outcomes.items() if name not in ("ok", *NOT_ASKED))


@dataclass(frozen=True)
class Paired:
    """Labelled rows that both arms answered."""

    labels: np.ndarray
    """[rows]: 0/1, class numbers or values."""
    champion: np.ndarray
    """[rows] or [rows, outputs]."""
    challenger: np.ndarray


@dataclass(frozen=True)
class StageEvidence:
    """Everything that is known of a stage, from its start to `complete_until`."""

    champion: ArmFacts
    challenger: ArmFacts
    assigned: tuple[int, int]
    """Independent units given to champion and challenger: callers where `rollout.key` is set, else requests."""
    complete_until: dt.datetime
    paired: Paired | None = None
    fused: int = 0
    """Replicas whose fuse cut the challenger off."""


@dataclass(frozen=True)
class StageSeen:
    """The stage as the newest Release has it."""

    step: int
    """Its index in the spec's stages, from 0."""
    kind: Literal["shadow", "canary"]
    started: dt.datetime
    routine: bool = True
    """Whether the challenger only refreshes the champion's recipe; another recipe must be superior in the shadow."""
