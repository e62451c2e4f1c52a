"""Projections into MLflow, made beside the loop: one at a time, and nothing waits for them."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from stackyard.store.documents import canonical

LONGEST = 120.0
"""Seconds a projection may take; importing MLflow alone takes several on a busy machine."""


class Projector:
    """Makes projections in child processes and remembers how they ended."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="projector")
        self._under_way: dict[str, Future[bool]] = {}

    def busy(self, run_id: str) -> bool:
        """Whether a projection of `run_id` is under way or ended and not yet collected."""
        return run_id in self._under_way

    def start(self, run_id: str, projection: dict[str, Any]) -> None:
        """Begin one; its arguments are those of `stackyard.registry.mlflow_projection.project`."""
        self._under_way[run_id] = self._pool.submit(_project, canonical(projection))

    def finished(self) -> dict[str, bool]:
        """Those that ended since the last call, and whether each was made."""
        ended = [run_id for run_id, future in self._under_way.items() if future.done()]
        return {run_id: self._under_way.pop(run_id).result() for run_id in ended}

    def stop(self) -> None:
        """Begin no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _project(data: bytes) -> bool:
    try:
        done = subprocess.run([sys.executable, "-m", "stackyard.registry"], input=data, timeout=LONGEST, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
