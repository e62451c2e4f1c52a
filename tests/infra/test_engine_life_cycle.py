"""The real engine, the real provider, small processes: a stack's whole life, with everything killed on the way.

Slow (a dozen engine runs), and worth it: only the real engine shows that a preview right after `up` is empty, that a
killed `up` converges, and that `destroy` leaves nothing of ours and everything of others.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from stackyard_infra.provider import tagged
from toy import Stack, toy_checkout

pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    (tmp_path / "backend").mkdir()
    made = Stack(toy_checkout(tmp_path / "a checkout; 100% #ours"))
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
    assert {path.name for path in (stack.folder / ".stackyard/local").iterdir()} == {
        *("logs", "store", "db", "keys", "certificates")
    }


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
