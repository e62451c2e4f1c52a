"""A Ray cluster of this run alone, on a loopback address of its own, closed to everybody without its token.

`ray.init(address="local")` and not `ray start`: it never joins a stranger's cluster, opens no client server on the
common port 10001, is up seconds earlier, and ends with the process that made it. Ray's own gRPC ports listen on all
interfaces whatever address it is given, hence the token, fresh for each try and readable by its owner only.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from stackyard.store import keys

SMALLEST_OBJECT_STORE = 128 << 20  # Ray refuses less than 75 MiB
_SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # report() waits for the next look of the controller
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # nobody drains the nodes of a cluster that ends with its run
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_prestart_worker_first_driver": "0",  # Train's processes have settings of their own and cannot use those
    "DASHBOARD_METRIC_PORT": "0",  # any free port: the usual one belongs to whoever was here first
}


@contextlib.contextmanager
def own_cluster(folder: Path, address: str, *, cpus: int, shared_bytes: int) -> Iterator[None]:
    """A cluster with `cpus` CPUs on `address` (127.0.0.N), its session under `folder` (0700), while the block runs.

    `shared_bytes` is what will be put into shared memory; more is reserved for it.
    """
    prepare(folder)
    import ray  # reads its environment when it is imported

    _leave_out_what_is_not_needed()
    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=max(SMALLEST_OBJECT_STORE, 2 * shared_bytes),
        _temp_dir=str(folder / "r"),
        _node_ip_address=address,
    )
    try:
        yield
    finally:
        ray.shutdown()


def prepare(folder: Path) -> None:
    """Set what Ray reads from the environment, and make the run's token. Before the first import of ray."""
    token = folder / "token"
    keys.ensure_token(token)
    os.environ.update(_SETTINGS, RAY_AUTH_TOKEN_PATH=str(token))
    for name in ("no_proxy", "NO_PROXY"):
        held = [part for part in os.environ.get(name, "").split(",") if part]
        os.environ[name] = ",".join(dict.fromkeys([*held, "127.0.0.1", "localhost", "127.0.0.0/8"]))


def _leave_out_what_is_not_needed() -> None:
    """Set three things that `ray start` has options for and `ray.init` has not; unknown to a Ray, they are skipped.

    The agent's HTTP server also listens on 127.0.0.1, so with its fixed default port the second cluster of a
    machine is left without one, be it ours or a neighbour's: any free port. The autoscaler's monitor and the log
    monitor serve clusters that grow and drivers that print; each costs a second of CPU at every start.
    """
    from ray._private.parameter import RayParams

    chosen = {"dashboard_agent_listen_port": 0, "no_monitor": True, "include_log_monitor": False}
    parameters = inspect.signature(RayParams.__init__).parameters.values()
    named = [item for item in parameters if item.default is not inspect.Parameter.empty]
    RayParams.__init__.__defaults__ = tuple(chosen.get(item.name, item.default) for item in named)
