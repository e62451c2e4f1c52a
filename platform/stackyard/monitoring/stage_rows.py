"""What a rollout's stage has shown, as plain values: the control room turns them into a verdict."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stackyard.data.sketches import Sketch


@dataclass(frozen=True)
class StageKey:
    """Which stage is meant."""

    release: int
    kind: Literal["shadow", "canary"]
    challenger: str
    """Digest of its bundle."""
    started: dt.datetime
    key: str | None = None
    """The input that keeps a caller on one arm; None: the request."""


@dataclass(frozen=True)
class ArmEvidence:
    """One arm's part. Of a canary, the champion's is what was its own, not what it answered for the challenger."""

    requests: int
    outcomes: Mapping[str, int]
    """Requests by what became of them."""
    slow: int
    """Sound answers that took longer than the champion's 99th percentile and the margin."""
    outputs: tuple[Sketch, ...]
    """In the bins of the champion's reference."""
    labels: np.ndarray
    """[labelled]: float64."""
    answers: np.ndarray
    """[labelled, outputs]: float64."""


@dataclass(frozen=True)
class StageRows:
    """Everything that is known of a stage up to `complete_until`."""

    champion: ArmEvidence
    challenger: ArmEvidence
    assigned: tuple[int, int]
    """Callers (requests, where no key is named) given to champion and challenger."""
    paired: tuple[np.ndarray, np.ndarray, np.ndarray]
    """labels [rows], champion's and challenger's outputs [rows, outputs], of rows that both answered."""
    fused: int
    """Replicas whose fuse cut the challenger off."""
    complete_until: dt.datetime
    files: int
    """Files of predictions that were read."""
