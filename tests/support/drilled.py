"""What a drill with a challenger is: its traffic and rollout, what one caller saw, and what came of it all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["shadow", "canary"]
RATE = 40.0
"""Requests a second of a harm drill, one parcel each."""
SHARE = 0.1
"""Of them that a canary gets."""
A_DAY, PARCELS = 152, 45
"""Requests of a played day, and parcels of one."""
STEPS = 4
AFTERWARDS = 20
"""Requests sent after the end of a challenger: none of them may be its own."""
LONGEST, DAYS = 60.0, 14
"""Seconds of a harm drill, days of a quality drill."""
AT_ONCE = 8
TOLERANCE = 1e-6
SPARED = ("fused", "dropped")

_CAREFUL = {"fuse": 5, "timeout": 0.5, "memory": 512 << 20}
_GUARDS = {"latency": 1.0}
"""The drills' machine is shared: its pauses are no challenger's fault."""
ROLLOUTS: dict[str, dict[str, Any]] = {
    "canary": {
        "stages": [{"kind": "canary", "share": SHARE, "requests": 100, "time": 600.0, "deadline": 1200.0}],
        "guards": _GUARDS,
        **_CAREFUL,
    },
    "shadow": {
        "stages": [{"kind": "shadow", "requests": 100, "time": 600.0, "deadline": 1200.0}],
        "guards": _GUARDS,
        **_CAREFUL,
    },
    "quality": {
        "stages": [
            {"kind": "shadow", "requests": 500, "time": 172_800.0, "deadline": DAYS * 86_400.0},
            {"kind": "canary", "share": 0.5, "requests": 100, "time": 86_400.0, "deadline": 4 * 86_400.0},
        ],
        "margin": 0.01,
        "guards": {**_GUARDS, "errors": 0.05, "predictions": 3.0},
        **_CAREFUL,
        "timeout": 1.5,
    },
}
"""Rollouts by the name of their drills; `quality` is the flights' own with fewer steps."""


@dataclass(frozen=True)
class Reply:
    """One answer as its caller saw it."""

    status: int
    bundle: str
    answers: tuple[float, ...]
    asked: list[dict[str, Any]] = field(repr=False)


@dataclass(frozen=True)
class Outcome:
    """What a drill showed."""

    drill: str
    stage: str
    ended: str
    """stopped, expired or promoted."""
    requests: int
    """All requests from the first stage's begin until the loop ended it."""
    tried: int
    """Those that the challenger was asked, as a shadow or as a canary."""
    exposed: int
    """Those whose caller got the challenger's answer."""
    failed: int
    """Answers that were no answer: any status but 200."""
    wrong: int
    """Answers that differ from what a sound model of that bundle says."""
    later: int
    """Answers of the challenger after it had been taken away."""
    seconds: float | None
    """From the first fault until every replica had done with it; None where days were played."""
    days: float | None
    reason: str

    @property
    def share(self) -> float:
        """Requests exposed, of all."""
        return self.exposed / max(self.requests, 1)
