"""The whole path of stack `local`, as a new user walks it: up, predict, edit, break, heal, down, up again.

Slow (minutes), and it earns them: here the real engine, real Ray, real MLflow and real HAProxy work together on real
data, and what is promised of the whole is looked at from outside.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from journey import CANARY, Checkout, Load, port_is_free, until

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.engine, pytest.mark.timeout(1500)]


class Watch(threading.Thread):
    """Looks at every process of the stack while it comes up: who carries the secret?"""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.carriers: set[str] = set()

    def run(self) -> None:
        while not self.over.wait(0.5):
            for process in psutil.process_iter(["cmdline"]):
                try:
                    text = (
                        Path(f"/proc/{process.pid}/environ").read_bytes() + " ".join(process.info["cmdline"]).encode()
                    )
                except (OSError, TypeError):
                    continue
                if CANARY.encode() in text:
                    self.carriers.add(_what(process.info["cmdline"]))


def _what(command: list[str]) -> str:
    return command[command.index("-m") + 1] if "-m" in command else Path(command[0]).name if command else "?"


@pytest.fixture(scope="module")
def neighbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[bytes]]:
    """Somebody else's process that looks like Ray's and carries another stack's tag."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(3600)", "raylet", "gcs_server", "ray::IDLE"],
        env={**os.environ, "STACKYARD_STACK_ID": "ffffffff", "RAY_ADDRESS": "127.0.0.1:6379"},
    )
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def up(checkout: Checkout, neighbour: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The stack after a first `make up`."""
    secret = checkout.run("pulumi", "config", "set", "--secret", "WAREHOUSE_TOKEN", CANARY, "-s", "local")
    assert secret.returncode == 0, secret.stderr
    shm = set(os.listdir("/dev/shm"))
    watch = Watch()
    watch.start()
    started = time.monotonic()
    said = checkout.make("up")
    seconds = time.monotonic() - started
    watch.over.set()
    watch.join()
    return {"said": said, "seconds": seconds, "carriers": watch.carriers, "shm": shm, **checkout.card()}


def test_up_ends_with_predictions_and_addresses(checkout: Checkout, up: dict[str, Any]) -> None:
    assert re.search(r"3 predictions by bundle [0-9a-f]{12}", up["said"])
    for address in up["addresses"].values():
        assert address in up["said"]
    answer = checkout.predict()
    assert answer.status_code == 200, answer.text
    assert 0 < answer.json()["predictions"][0]["probability"] < 1
    assert checkout.status()["healthy"], checkout.status()["problems"]


def test_the_champion_is_as_good_on_march_as_february_promises(checkout: Checkout, up: dict[str, Any]) -> None:
    done = checkout.run(
        *("env", "WAREHOUSE_TOKEN=another"), *("stackyard", "score", "--window", "2013-03-01:2013-04-01", "--json")
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["auc"] > 0.69  # a model of carrier alone reaches .56


def test_a_preview_right_after_up_has_nothing_to_change(checkout: Checkout, up: dict[str, Any]) -> None:
    done = checkout.run("pulumi", "preview", "-s", "local", "--expect-no-changes", "--non-interactive")
    assert done.returncode == 0, done.stdout + done.stderr


def _readme_commands() -> list[str]:
    """The commands of README.md's blocks that look and ask; make's and pulumi's are what the other tests run, and the
    story of a lent cluster is the life-cycle suite's (`test_readme_of_a_lent_cluster.py`)."""
    text = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(("stackyard ", "curl ")) and not line.endswith("-s lab")]


@pytest.mark.parametrize("command", _readme_commands(), ids=lambda command: " ".join(command.split()[:3]))
def test_each_command_of_the_readme_does_what_it_says(checkout: Checkout, up: dict[str, Any], command: str) -> None:
    done = checkout.run("env", "WAREHOUSE_TOKEN=another", "bash", "-c", command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_working_tree_stays_clean(checkout: Checkout, up: dict[str, Any]) -> None:
    new = {path.name for path in checkout.folder.iterdir()} - {name.split("/")[0] for name in _tracked()}
    assert new <= {".venv", ".stackyard"}


def _tracked() -> list[str]:
    here = Path(__file__).resolve().parents[2]
    return subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=here, text=True).splitlines()


def test_the_secret_is_nowhere_in_clear_but_in_its_private_file(checkout: Checkout, up: dict[str, Any]) -> None:
    assert up["carriers"] <= {"stackyard.training.run", "stackyard.training.job"}
    needles = (CANARY.encode(), base64.b64encode(CANARY.encode()))
    allowed = checkout.folder / ".stackyard" / "local" / "etc" / "controller" / "secrets" / "WAREHOUSE_TOKEN"
    assert allowed.stat().st_mode & 0o777 == 0o600
    found = [
        path
        for root in (checkout.folder / ".stackyard", checkout.folder / "stacks", Path(up["runtime"]))
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink() and any(needle in path.read_bytes() for needle in needles)
    ]
    assert found == [allowed]


RAYS_OWN = re.compile(r"gcs_server|raylet|ray::|ray/|agent\.py|default_worker|core_worker")


def test_only_rays_own_ports_are_off_loopback(checkout: Checkout, up: dict[str, Any]) -> None:
    off = []
    for process in checkout.processes(up["stack_id"]):
        try:
            command, connections = " ".join(process.cmdline()), process.net_connections("tcp")
        except psutil.Error:
            continue
        for connection in connections:
            if connection.status != psutil.CONN_LISTEN or connection.laddr.ip.removeprefix("::ffff:").startswith(
                "127."
            ):
                continue
            if not RAYS_OWN.search(command):
                off.append((command[:120], connection.laddr))
    assert off == []


def test_an_edit_of_the_most_replicas_changes_one_resource_while_the_service_answers(
    checkout: Checkout, up: dict[str, Any]
) -> None:
    spec = checkout.folder / "stacks" / "local.yaml"
    spec.write_text(spec.read_text() + "overrides:\n  serving:\n    replicas:\n      max: 3\n")
    with Load(checkout) as load:
        plan = checkout.run("pulumi", "preview", "-s", "local", "--json")
        done = checkout.run("pulumi", "up", "-s", "local", "--yes", "--skip-preview", "--non-interactive")
    steps = {step["urn"].rsplit("::", 1)[1]: step["op"] for step in json.loads(plan.stdout)["steps"]}
    assert {name: op for name, op in steps.items() if op not in ("same", "refresh")} == {"serving": "update"}
    assert done.returncode == 0, done.stdout + done.stderr
    assert (load.codes.get(200, 0) > 50, load.failed) == (True, 0), load.codes


VICTIMS = [
    *("controller", "mlflow", "haproxy", "metrics", "replica", "gcs_server"),
    *(pytest.param(victim, marks=pytest.mark.lifecycle) for victim in ("raylet", "serving")),  # the same way back
]


@pytest.mark.parametrize("victim", VICTIMS)
def test_whatever_is_killed_comes_back_by_itself(checkout: Checkout, up: dict[str, Any], victim: str) -> None:
    champion = checkout.status()["champion"]["champion"]
    (process, *_) = [p for p in checkout.processes(up["stack_id"]) if _is(p, victim)]
    process.send_signal(signal.SIGKILL)
    until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, f"{victim} is dead", 10)
    until(lambda: checkout.predict().status_code == 200, f"predictions after {victim} was killed")
    until(lambda: _recovered(checkout, champion), f"health after {victim} was killed")


def _recovered(checkout: Checkout, champion: str) -> bool:
    status = checkout.status()
    ready = [replica for replica in status["replicas"] if replica["ready"]]
    return status["healthy"] and status["champion"]["champion"] == champion and len(ready) >= 2


def _is(process: psutil.Process, victim: str) -> bool:
    command = process.cmdline()
    if victim == "replica":
        return "ServeReplica" in " ".join(command)
    if victim in ("gcs_server", "raylet"):
        return bool(command) and Path(command[0]).name == victim
    named = process.environ().get("STACKYARD_PROCESS") == victim
    return named and (victim != "serving" or "stackyard.serving.cluster" in command)


@contextlib.contextmanager
def _away(checkout: Checkout, up: dict[str, Any], what: str) -> Iterator[None]:
    """The folder `what` is elsewhere, or the process `what` stands still, until the block ends."""
    state = checkout.folder / ".stackyard" / "local"
    if what in ("store", "db"):
        (state / what).rename(state / f"{what}-away")
        try:
            yield
        finally:
            made = state / what  # whoever found none may have begun another
            if made.exists():
                shutil.rmtree(made)
            (state / f"{what}-away").rename(made)
        return
    stopped = [process for process in checkout.processes(up["stack_id"]) if _is(process, what)]
    for process in stopped:
        process.suspend()
    try:
        yield
    finally:
        for process in stopped:
            process.resume()


@pytest.mark.parametrize(
    "seconds", [pytest.param(8, id="seconds"), pytest.param(60, id="a-minute", marks=pytest.mark.lifecycle)]
)
@pytest.mark.parametrize("what", ["store", "db", "mlflow", "controller"])
def test_every_request_is_answered_while_something_behind_the_replicas_is_away(
    checkout: Checkout, up: dict[str, Any], what: str, seconds: int
) -> None:
    """The data plane fails static: store, database, registry and controller are not on the request path."""
    champion = checkout.status()["champion"]["champion"]
    with Load(checkout) as load, _away(checkout, up, what):
        time.sleep(seconds)
    assert (load.codes.get(200, 0) > 50, load.failed) == (True, 0), load.codes
    until(lambda: _recovered(checkout, champion), f"health after {what} was away")


def test_after_a_kill_of_everything_at_once_the_next_up_converges(checkout: Checkout, up: dict[str, Any]) -> None:
    champion = checkout.status()["champion"]["champion"]
    for process in checkout.processes(up["stack_id"]):
        with contextlib.suppress(psutil.NoSuchProcess):  # gone with one that was killed before it
            process.kill()
    shutil.rmtree(up["runtime"])  # as a reboot leaves it
    checkout.make("up")
    assert _recovered(checkout, champion)


def test_down_leaves_nothing_but_the_store_and_up_serves_the_same_model_again(
    checkout: Checkout, up: dict[str, Any], neighbour: subprocess.Popen[bytes]
) -> None:
    champion = checkout.status()["champion"]["champion"]
    ports = [int(url.split(":")[2].split("/")[0]) for url in up["addresses"].values()] + up["replica_ports"]
    checkout.make("down")
    assert checkout.processes(up["stack_id"]) == []
    assert all(port_is_free(port) for port in ports)
    assert not Path(up["runtime"]).exists()
    assert set(os.listdir("/dev/shm")) - up["shm"] == set()
    assert neighbour.poll() is None
    assert "stackyard: stack local is not up" in checkout.run("stackyard", "status").stderr

    checkout.make("up")
    assert checkout.status()["champion"]["champion"] == champion
    assert checkout.predict().headers["x-stackyard-bundle"] == champion
    assert [run["number"] for run in checkout.status()["runs"]] == [1]
    assert httpx.get(checkout.card()["addresses"]["mlflow"] + "/health", trust_env=False).status_code == 200
