"""The document that Ray Serve is given over its REST API, as plain values.

Replica counts stand apart from the replicas' arguments, so that a change of them alone is made in place; any other
change replaces replicas, new ones first.
"""

from __future__ import annotations

from typing import Any

from stackyard.serving.settings import NOTICE_SECONDS, Settings

APPLICATION, DEPLOYMENT = "stackyard", "replica"

DOWNSCALE_SECONDS = 120.0
"""How long the load must be low before a replica is given up: starting one again costs seconds of processor time."""


def document(settings: Settings) -> dict[str, Any]:
    """A `ServeDeploySchema` for `settings`."""
    counts = settings.serving.replicas
    most = min(counts.max, len(settings.replica_ports))
    deployment = {
        "name": DEPLOYMENT,
        "autoscaling_config": {
            "min_replicas": min(counts.min, most),
            "max_replicas": most,
            "target_ongoing_requests": counts.target_load,
            "policy": {"policy_function": "stackyard.serving.autoscale:desired"},
            "metrics_interval_s": 0.5,
            "look_back_period_s": 2.0,
            "upscale_delay_s": 0.0,
            "downscale_delay_s": DOWNSCALE_SECONDS,
        },
        "max_ongoing_requests": 100,  # of Serve's own path, which carries only health checks
        "max_queued_requests": 100,
        "health_check_period_s": 2.0,
        "health_check_timeout_s": 10.0,
        "graceful_shutdown_wait_loop_s": 0.1,
        "graceful_shutdown_timeout_s": settings.serving.drain + NOTICE_SECONDS + 15.0,
        "max_surge_percent": 100,  # new replicas first: the other way round leaves nobody to answer
        "ray_actor_options": {"num_cpus": 0.01},
    }
    return {
        "proxy_location": "Disabled",
        "http_options": {"host": "127.0.0.1"},
        "logging_config": {"enable_access_log": False},
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": None,
                "import_path": "stackyard.serving.application:build",
                "args": {"settings": settings.replica_arguments()},
                "deployments": [deployment],
            }
        ],
    }
