"""Leased clusters on the Prometheus page: whether they are open, when they end, how old what is safe of them is."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric


def families(place: Path | None, now: dt.datetime) -> Iterator[Metric]:
    """The gauges of what the controller wrote to `place`; none where no cluster is lent, or it cannot be read."""
    clusters = _read(place)
    if not clusters:
        return
    gauges = {
        "open": GaugeMetricFamily("stackyard_lease_open", "Whether the leased cluster runs.", labels=["cluster"]),
        "ends": GaugeMetricFamily("stackyard_lease_ends_timestamp_seconds", "When it ends.", labels=["cluster"]),
        "safe_until": GaugeMetricFamily(
            "stackyard_lease_unsafe_seconds", "Age of what is safe in the store: what a loss would cost now.",
            labels=["cluster"],
        ),
    }  # fmt: skip
    for cluster, figures in sorted(clusters.items()):
        for name, gauge in gauges.items():
            value = figures.get(name)
            if name == "open":
                gauge.add_metric([cluster], float(bool(value)))
            elif isinstance(value, str):
                at = dt.datetime.fromisoformat(value)
                gauge.add_metric([cluster], at.timestamp() if name == "ends" else (now - at).total_seconds())
    yield from gauges.values()


def _read(place: Path | None) -> dict[str, dict[str, Any]]:
    try:
        return {} if place is None else json.loads(place.read_bytes())
    except (OSError, ValueError):
        return {}
