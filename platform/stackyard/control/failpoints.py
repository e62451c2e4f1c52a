"""Places where a test kills the controller, by name: what must survive a kill anywhere is killed everywhere."""

from __future__ import annotations

import os
import signal
from typing import Final

NAMES: Final = (
    "run-intended",
    "run-claimed",
    "run-started",
    "gate-judged",
    "gate-stored",
    "release-audited",
    "release-published",
    "answer-noted",
)
"""Every failpoint there is."""
VARIABLE: Final = "STACKYARD_FAILPOINT"


def hit(name: str) -> None:
    """Die here, as by kill -9, if the environment names this place; else nothing."""
    if os.environ.get(VARIABLE) == name:
        os.kill(os.getpid(), signal.SIGKILL)
