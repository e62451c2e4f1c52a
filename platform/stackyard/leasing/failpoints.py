"""Places where a test kills the reaper, by name: what must survive a kill anywhere is killed everywhere."""

from __future__ import annotations

from typing import Final

from stackyard.evacuation.failpoints import VARIABLE, hit

__all__ = ["NAMES", "RESUMING", "SUSPENDING", "TELLING", "VARIABLE", "hit"]

SUSPENDING: Final = ("suspend-intended", "suspend-saved", "suspend-noted", "suspend-ended", "suspend-thawed")
"""In the order of one suspension; those of the evacuation lie between the first two."""
RESUMING: Final = ("resume-intended", "resume-cleared", "resume-started")
TELLING: Final = ("look-noted", "warning-noted", "extension-noted")
NAMES: Final = SUSPENDING + RESUMING + TELLING
"""Every failpoint there is."""
