"""The Ray Serve deployment around `Replica`, and the builder that Serve imports.

Serve builds the application in a process that never predicts anything, so what a replica needs is imported only
where a replica starts.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from ray import serve

if TYPE_CHECKING:
    from stackyard.serving.replica import Replica


@serve.deployment(name="replica")
class ServeReplica:
    """One replica as Serve sees it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        from stackyard.serving.replica import Replica

        self._replica: Replica = Replica(settings)
        print(f"serving: replica {os.getpid()} on port {self._replica.server.port}", flush=True)

    async def check_health(self) -> None:
        """Serve replaces a replica for which this raises."""
        if not await asyncio.to_thread(self._replica.healthy):
            raise RuntimeError("the replica's HTTP server or its inference thread does not answer")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Requests in progress, averaged since the last call."""
        return {"load": self._replica.batcher.load()}

    async def __del__(self) -> None:
        await asyncio.to_thread(self._replica.drain)


def build(args: dict[str, Any]) -> Any:
    """The application; named by `import_path`, called by Serve with the `args` of the deployed document."""
    return ServeReplica.bind(args["settings"])
