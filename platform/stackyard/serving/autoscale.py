"""How many replicas the reported load asks for.

Requests do not pass Serve's proxy, so Serve sees none of them: each replica reports its own requests in progress
as `load`, and this function, called by Serve with the numbers of all replicas, decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def desired(context: Any) -> tuple[int, dict[str, Any]]:
    """Serve's policy: (replicas, state) from an `AutoscalingContext`; Serve applies its delays afterwards."""
    metrics: Mapping[str, Mapping[Any, float]] = context.aggregated_metrics or {}
    count = replicas(
        loads=[float(load) for load in (metrics.get("load") or {}).values()],
        target=float(context.config.target_ongoing_requests),
        current=context.target_num_replicas,
        least=context.capacity_adjusted_min_replicas,
        most=context.capacity_adjusted_max_replicas,
    )
    return count, {}


def replicas(*, loads: list[float], target: float, current: int, least: int, most: int) -> int:
    """Replicas that carry `loads` (requests in progress, one number a replica) at `target` each, within bounds.

    Replicas that have not reported count nothing yet. Without any report nothing changes.
    """
    sound = [load for load in loads if math.isfinite(load) and load >= 0]
    wanted = math.ceil(sum(sound) / target - 1e-9) if sound and target > 0 else current
    return max(least, min(most, wanted))
