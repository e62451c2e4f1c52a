"""Places where a test kills the saver, by name: what must survive a kill anywhere is killed everywhere."""

from __future__ import annotations

import os
import signal
from typing import Final

SAVING: Final = ("save-begun", "pack-stored", "contents-stored", "version-stored", "save-noted")
"""In the order of one save."""
EVACUATING: Final = ("freeze-noted", "frozen", "difference-verified", "receipt-stored", "sealed")
"""In the order of one evacuation, between its two saves and after them."""
RESTORING: Final = ("restore-begun", "restore-filled")
ARRIVING: Final = ("arrival-noted", "arrival-moving", "arrived")
"""In the order of a restored version's move into a workspace."""
THAWING: Final = ("thawed",)
NAMES: Final = SAVING + EVACUATING + RESTORING + ARRIVING + THAWING
"""Every failpoint there is."""
VARIABLE: Final = "STACKYARD_FAILPOINT"


def hit(name: str) -> None:
    """Die here, as by kill -9, if the environment names this place; else nothing."""
    if os.environ.get(VARIABLE) == name:
        os.kill(os.getpid(), signal.SIGKILL)
