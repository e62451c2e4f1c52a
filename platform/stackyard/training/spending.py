"""What a run has used of the machine, its interrupted tries included, for the budget of its model.

Each try notes when it began. One that was killed cannot say how long it lived, so it counts until its last word.
"""

from __future__ import annotations

import json
import time

from stackyard.spec.models import TrainingSpec
from stackyard.store import layout
from stackyard.store.documents import canonical
from stackyard.store.objects import Store
from stackyard.training.progress import Progress


class Spending:
    """Seconds of one run, over all its tries; made at the begin of each."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._begin = time.monotonic()
        key = layout.run(run_id, "try.json")
        self._before = 0.0
        try:
            last = json.loads(store.read(key))
            word = Progress(store, run_id).read().get("time", last["began"])
            self._before = last["before"] + max(0.0, word - last["began"])
        except (KeyError, ValueError, TypeError):
            pass
        store.write(key, canonical({"kind": "run-try", "version": 1, "began": time.time(), "before": self._before}))

    def seconds(self) -> float:
        """Seconds so far, of this try and those before."""
        return self._before + time.monotonic() - self._begin

    def hours(self, training: TrainingSpec) -> dict[str, float]:
        """`cpu_hours` (threads of all workers) and `gpu_hours` (no family here uses one) so far."""
        return hours(training, self.seconds())


def hours(training: TrainingSpec, seconds: float) -> dict[str, float]:
    """What `seconds` of a run count for."""
    return {"cpu_hours": round(seconds * training.threads * training.workers / 3600, 6), "gpu_hours": 0.0}
