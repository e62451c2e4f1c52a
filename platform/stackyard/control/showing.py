"""MLflow follows the Releases: its aliases and tags are set anew when a Release or a version there is new.

Nothing waits for it; what failed is tried again later, and a controller that starts has it done once.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from stackyard.registry import following
from stackyard.store import layout
from stackyard.store.objects import Store
from stackyard.store.releases import Release

NAME = "releases"
"""By which the projector knows this projection from those of runs."""
RETRY = dt.timedelta(seconds=60)


class Projects(Protocol):
    """Whoever makes projections: `stackyard.control.projector`, or a fake."""

    def busy(self, run_id: str) -> bool:
        """Whether the projection of that name is under way."""
        ...

    def start(self, run_id: str, projection: dict[str, Any]) -> None:
        """Begin one."""
        ...


class Showing:
    """Remembers what MLflow was last told of `model`'s Releases."""

    def __init__(self, store: Store, model: str, tracking_uri: str | None, projector: Projects) -> None:
        self._store, self._model, self._address, self._projector = store, model, tracking_uri, projector
        self._told: tuple[int, int] | None = None
        self._next: dt.datetime | None = None

    def step(self, chain: Sequence[Release], shown: Sequence[str], machine: dt.datetime) -> None:
        """See that MLflow is told of `chain`; `shown` are the runs whose versions it shows by now."""
        state = (len(chain), len(shown))
        if self._address is None or not chain or not shown or state == self._told or self._projector.busy(NAME):
            return
        if self._next is not None and machine < self._next:
            return
        results = {run_id: self._read(layout.run(run_id, "result.json")) for run_id in shown}
        gates = {run_id: gate for run_id in shown if (gate := self._read(layout.gate(self._model, run_id)))}
        self._projector.start(NAME, following.projection(self._address, self._model, chain, gates, results))
        self._told = state

    def ended(self, made: bool, machine: dt.datetime) -> None:
        """Note how the projection ended."""
        self._next = None if made else machine + RETRY
        self._told = self._told if made else None

    def _read(self, key: str) -> Mapping[str, Any]:
        try:
            return json.loads(self._store.read(key))
        except (KeyError, ValueError):
            return {}
