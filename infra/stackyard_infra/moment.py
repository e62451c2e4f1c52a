"""What time is it for a stack? The machine's, or what its virtual clock says; leases end by it."""

from __future__ import annotations

import contextlib
import datetime as dt
from pathlib import Path

from stackyard.spec import StackSpec
from stackyard_infra.manifests import processes
from stackyard_infra.manifests.places import Places


def now(spec: StackSpec) -> dt.datetime:
    """The stack's time (UTC). A virtual clock that was not made yet stands where it will begin."""
    file = processes.clock(spec, Places.of(spec))
    if file is None:
        return dt.datetime.now(dt.UTC)
    text = processes.start_of_time(spec)
    with contextlib.suppress(FileNotFoundError):
        text = Path(file).read_text()
    return dt.datetime.fromisoformat(text.strip())
