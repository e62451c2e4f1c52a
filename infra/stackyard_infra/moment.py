"""What time is it for a stack? The machine's, or what its virtual clock says; leases end by it."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from pathlib import Path

from stackyard.spec import StackSpec
from stackyard_infra.manifests import leases, processes
from stackyard_infra.manifests.places import Places


def now(spec: StackSpec) -> dt.datetime:
    """The stack's time (UTC). A virtual clock that was not made yet stands where it will begin."""
    file = processes.clock(spec, Places.of(spec))
    if file is None:
        return dt.datetime.now(dt.UTC)
    text = processes.start_of_time(spec)
    with contextlib.suppress(FileNotFoundError):
        text = Path(file).read_text()
    return dt.datetime.fromisoformat(text.split()[0])  # a second line says up to when all is known


def extended(spec: StackSpec) -> dict[str, float]:
    """Seconds by which `stackyard lease extend` put off the end of each cluster that is there."""
    places, found = Places.of(spec), {}
    for name in spec.environment.clusters:
        folder = leases.folder(places, name)
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            told = json.loads((folder / "extensions.json").read_text())
            mine = told["instance"] == json.loads((folder / "instance.json").read_text())["instance"]
            found[name] = sum(float(each["seconds"]) for each in told["extensions"]) if mine else 0.0
    return found
