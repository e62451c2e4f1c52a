"""The real engine, the real provider, small processes: a stack's whole life, with everything killed on the way.

Slow (a dozen engine runs), and worth it: only the real engine shows that a preview right after `up` is empty, that a
killed `up` converges, and that `destroy` leaves nothing of ours and everything of others.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from machine import engine
from stackyard_infra.provider import tagged

pytestmark = [pytest.mark.engine, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PROGRAM = """
import pathlib
import pulumi
from stackyard.spec import load
from stackyard_infra.components.store import ArtifactStore
from stackyard_infra.components.supervision import Supervision

spec = load(pathlib.Path(__file__).parents[1] / "stacks" / "local.yaml")
supervision = Supervision("supervision", spec)
store = ArtifactStore("store", spec, supervision=supervision)
for name in ("metrics", "mlflow"):
    def web(ports, addresses, keys, name=name):
        port = str(ports[name])
        command = [supervision.places.python, "-m", "http.server", port, "--bind", "127.0.0.1", "-d", "."]
        files = {"note": pathlib.Path(f"{name}.txt").read_text()}
        health = {"http": f"http://127.0.0.1:{port}/", "timeout": 30}
        return {"command": command, "environment": {}, "files": files, "health": health}
    supervision.run(name, supervision.lowered(web), parent=supervision, needs=[store.folder], version="1",
                    secrets={"TOKEN": pulumi.Config().require_secret("TOKEN")} if name == "mlflow" else {})
"""
PROJECT = """\
name: toy
task: {type: binary, label: late}
data:
  source: {python: "rows:rows"}
  time: at
  window: {start: 2024-01-01, end: 2024-02-01}
  columns:
    at: {type: datetime, known: before}
    distance: {type: float, known: before}
    late: {type: boolean, known: after}
features: {function: "rows:features"}
"""


class Stack:
    """A checkout of its own with a small program, and the engine to run it with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        chosen = engine.choose()
        path = os.pathsep.join([*chosen.folders(), os.environ["PATH"]])
        self.environment = {
            **os.environ,
            "PATH": path,
            "PULUMI_HOME": str(folder / ".stackyard/pulumi"),
            "PULUMI_BACKEND_URL": f"file://{folder.parent}/backend",
            "PULUMI_CONFIG_PASSPHRASE": "canary-passphrase",
            "PULUMI_SKIP_UPDATE_CHECK": "1",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "1",
            "PULUMI_DISABLE_REGISTRY_RESOLVE": "1",
        }
        self.stack_id = hashlib.sha256(f"{folder.resolve()}\nlocal".encode()).hexdigest()[:8]
        self.runtime = Path(f"/tmp/sy-{os.getuid()}-{self.stack_id}")

    def command(self, *arguments: str) -> list[str]:
        return ["pulumi", *arguments, "--stack", "local", "--non-interactive"]

    def pulumi(self, *arguments: str) -> str:
        """What the engine says. It must succeed."""
        command = self.command(*arguments)
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up(self) -> str:
        return self.pulumi("up", "--yes", "--skip-preview")

    def killed_up(self, moment: Callable[[], object]) -> None:
        """`pulumi up`, killed -9 at that moment; then its lock is cleared as `make` does."""
        process = subprocess.Popen(
            self.command("up", "--yes", "--skip-preview"),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: moment() or process.poll() is not None)
        assert process.poll() is None, "it ended before it could be killed"
        process.kill()
        process.wait()
        self.pulumi("cancel", "--yes")

    def running(self, name: str | None = None) -> set[int]:
        return {process.pid for process in tagged.find(self.stack_id, name)}

    def ports(self) -> set[int]:
        return tagged.listening(tagged.find(self.stack_id))


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    folder = tmp_path / "a checkout; 100% #ours"
    for below in ("infra", "stacks", "examples/toy"):
        (folder / below).mkdir(parents=True)
    (tmp_path / "backend").mkdir()
    shutil.copy(ROOT / "Pulumi.yaml", folder)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    (folder / "tools").symlink_to(ROOT / "tools")
    (folder / "infra/stackyard_infra").symlink_to(ROOT / "infra/stackyard_infra")
    (folder / "infra/__main__.py").write_text(PROGRAM)
    for name in ("metrics", "mlflow"):
        (folder / f"infra/{name}.txt").write_text("first")
    (folder / "examples/toy/project.yaml").write_text(PROJECT)
    (folder / "examples/toy/rows.py").write_text("def rows(): ...\ndef features(): ...\n")
    (folder / "stacks/local.yaml").write_text("project: ../examples/toy\ntarget: local\n")
    made = Stack(folder)
    made.pulumi("stack", "init")
    made.pulumi("config", "set", "--secret", "TOKEN", "canary-token")
    yield made
    tagged.end(made.stack_id, grace=1)
    shutil.rmtree(made.runtime, ignore_errors=True)


@pytest.fixture
def stranger() -> Iterator[psutil.Process]:
    """A process of somebody else's stack, under a name that we use too."""
    environment = {**os.environ, tagged.STACK_TAG: secrets.token_hex(4), tagged.PROCESS_TAG: "mlflow"}
    with subprocess.Popen(["sleep", "1000"], env=environment) as process:
        yield psutil.Process(process.pid)
        process.kill()


def test_a_stack_lives_is_hurt_heals_and_leaves_nothing(stack: Stack, stranger: psutil.Process):
    stack.up()
    assert "unchanged" in stack.pulumi("preview", "--expect-no-changes")
    ports = stack.ports()
    assert len(ports) == 2

    # A change of one process leaves the other alone.
    before, other = stack.running("mlflow"), stack.running("metrics")
    (stack.folder / "infra/mlflow.txt").write_text("second")
    assert "1 updated" in stack.up()
    assert stack.running("metrics") == other
    assert not stack.running("mlflow") & before

    # A process, and then the supervisor with all of them, is killed.
    for pid in stack.running("metrics"):
        os.kill(pid, signal.SIGKILL)
    stack.up()
    assert stack.ports() == ports
    for process in tagged.find(stack.stack_id, "supervisor"):
        process.kill()
    assert "3 created" in stack.up()
    assert stack.ports() == ports, "ports are stable"
    assert len(stack.running()) == 3

    # The machine restarts: nothing runs, /tmp is empty.
    tagged.end(stack.stack_id, grace=0)
    shutil.rmtree(stack.runtime)
    stack.up()
    assert stack.ports() == ports

    # Nothing was told what it need not know; the state holds no secret in clear.
    for process in tagged.find(stack.stack_id):
        assert "canary" not in str(process.environ()) + str(process.cmdline())
    written = [path for path in stack.folder.parent.rglob("*") if path.is_file() and not path.is_symlink()]
    told = {path.name for path in written if b"canary-token" in path.read_bytes()}
    assert told == {"TOKEN"}, "the one private file of the one process that needs it"

    stack.pulumi("destroy", "--yes", "--skip-preview")
    assert_nothing_left(stack, ports)
    assert stranger.is_running()
    assert {path.name for path in (stack.folder / ".stackyard/local").iterdir()} == {"logs", "store", "db", "keys"}


def test_a_killed_up_is_finished_by_the_next_command_whichever_it_is(stack: Stack):
    stack.killed_up((stack.runtime / "supervisor.sock").exists)
    stack.killed_up(lambda: stack.running("mlflow") and stack.running("metrics"))
    stack.up()
    assert len(stack.running()) == 3, "what the killed ones had made was adopted, not made twice"
    stack.pulumi("preview", "--expect-no-changes")
    ports = stack.ports()
    (stack.folder / "infra/mlflow.txt").write_text("second")
    (stack.folder / "infra/metrics.txt").write_text("second")
    before = stack.running("mlflow")
    stack.killed_up(lambda: not stack.running("mlflow") & before)
    stack.pulumi("destroy", "--yes", "--skip-preview")
    assert_nothing_left(stack, ports)


def assert_nothing_left(stack: Stack, ports: set[int]) -> None:
    assert stack.running() == set()
    assert not stack.runtime.exists()
    assert not [path for path in tagged.SHARED_MEMORY.iterdir() if stack.stack_id in path.name]
    listening = {c.laddr.port for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr}
    assert not listening & ports
