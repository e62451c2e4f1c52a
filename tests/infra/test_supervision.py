"""A real supervisord and real processes: what survives, what must not, and what nobody else's process notices."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import stackyard_infra.provider as provider_package
from stackyard_infra.provider import tagged
from stackyard_infra.provider.daemon import Daemon, surroundings
from stackyard_infra.provider.places import SiteKind
from stackyard_infra.provider.processes import ProcessKind, SupervisorKind
from stackyard_infra.provider.site import Site
from stackyard_infra.provider.supervisord import LONGEST_WAIT, bounded

FAMILY = (
    "import subprocess,sys; subprocess.Popen(['sleep','1000'],start_new_session=True); subprocess.run(['sleep','1000'])"
)


def until(condition: Callable[[], object], what: str, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def supervisor(site: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict]:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "canary-passphrase")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-cloud-key")
    inputs = {"site": site, "environment": {"STACKYARD_STACK": "test", tagged.STACK_TAG: site["stack_id"]}}
    SupervisorKind().create(inputs)
    yield inputs
    SupervisorKind().delete(inputs)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process of another stack."""
    environment = dict(os.environ) | {tagged.STACK_TAG: secrets.token_hex(4), tagged.PROCESS_TAG: "web"}
    with subprocess.Popen(["sleep", "1000"], env=environment) as process:
        yield process
        process.kill()


def test_a_process_lives_dies_and_comes_back(supervisor: dict, process: Callable, stranger: subprocess.Popen[bytes]):
    """One supervisord for the whole life, since each start costs a second: the order is that of a bad day."""
    site, kind = Site.of(supervisor), ProcessKind()
    state = process("web", command=[sys.executable, "-c", FAMILY], secrets={"TOKEN": "canary-secret"})
    state |= kind.create(state)
    until(lambda: len(tagged.find(site.stack_id, "web")) == 3, "the process and both its children run")
    assert SupervisorKind().read(supervisor) == {}
    assert kind.read(state) == {"healthy": True}
    for member in tagged.find(site.stack_id):
        told = json.dumps([member.environ(), member.cmdline()])
        assert "canary" not in told, f"{member} was told a secret"
        assert "SUPERVISOR_" not in told
        assert os.getsid(member.pid) != os.getsid(0), "a daemon in the engine's session would hang `up`"

    before = {member.pid for member in tagged.find(site.stack_id, "web")}
    os.kill(Daemon(site).states()["web"]["pid"], signal.SIGKILL)
    until(lambda: len({m.pid for m in tagged.find(site.stack_id, "web")} - before) == 3, "it is restarted")
    until(lambda: not before & {m.pid for m in tagged.find(site.stack_id, "web")}, "no child of the first life stays")

    pid = Daemon(site).pid()
    assert pid is not None
    main = psutil.Process(Daemon(site).states()["web"]["pid"])
    os.kill(pid, signal.SIGKILL)
    until(lambda: ended(main), "it ends with its supervisor")
    assert SupervisorKind().read(supervisor) is None
    assert kind.read(state) is None
    SupervisorKind().create(supervisor)
    assert [m for m in tagged.find(site.stack_id) if m.pid != Daemon(site).pid()] == [], (
        "nothing of the last life stays"
    )
    kind.create(state)
    until(lambda: len(tagged.find(site.stack_id, "web")) == 3, "it runs again, once")

    again = Daemon(site).pid()
    SupervisorKind().create(supervisor)
    assert Daemon(site).pid() == again, "a supervisor that is there is adopted"
    SiteKind().delete({"site": supervisor["site"]})
    assert tagged.find(site.stack_id) == []
    assert not site.runtime.exists()
    assert stranger.poll() is None, "another stack's process of the same name was ended"


def test_a_process_that_keeps_failing_is_tried_for_ever_and_told_with_its_log(supervisor: dict, process: Callable):
    from stackyard_infra.provider.errors import Refusal

    broken = process("web", command=["sh", "-c", "echo cannot open the database; exit 1"], health={"timeout": 1.5})
    with pytest.raises(Refusal, match="cannot open the database"):
        ProcessKind().create(broken)
    assert Daemon(Site.of(supervisor)).states()["web"]["statename"] in ("BACKOFF", "STARTING")
    ProcessKind().create(process("web"))
    assert ProcessKind().read(process("web")) == {"healthy": True}


def test_shared_memory_of_a_killed_process_is_removed(site: dict[str, str]):
    file = tagged.SHARED_MEMORY / f"stackyard-test-{site['stack_id']}"
    code = f"import mmap,time; f=open({str(file)!r}, 'w+b'); f.truncate(9); m = mmap.mmap(f.fileno(), 9); time.sleep(9)"
    environment = dict(os.environ) | {tagged.STACK_TAG: site["stack_id"]}
    with subprocess.Popen([sys.executable, "-c", code], env=environment):
        until(lambda: tagged.shared_memory(tagged.find(site["stack_id"])), "the mapping is there")
        SiteKind().delete({"site": site})
    assert not file.exists()


def test_a_process_that_wrote_over_its_environment_is_found_by_its_parent_and_later_by_its_files(
    site: dict[str, str], tmp_path: Path
):
    runtime = Path(site["runtime"])
    runtime.mkdir(mode=0o700)
    child = "import sys,time; log=open(sys.argv[1],'w'); log.write('up'); log.flush(); time.sleep(99)"
    parent = "import os,subprocess,sys,time; subprocess.Popen([sys.executable, *sys.argv[1:]], env={}); time.sleep(99)"
    environment = dict(os.environ) | {tagged.STACK_TAG: site["stack_id"], tagged.PROCESS_TAG: "serving"}
    command = [sys.executable, "-c", parent, "-c", child, str(runtime / "log")]
    with subprocess.Popen(command, env=environment) as head:
        until(lambda: (runtime / "log").exists() and (runtime / "log").read_text(), "the child runs")
        [orphan] = [member for member in tagged.find(site["stack_id"], "serving") if member.pid != head.pid]
        assert orphan not in tagged.find(site["stack_id"], "controller"), "its parent says whose it is"
        head.kill()
        head.wait()
    assert tagged.find(site["stack_id"]) == [orphan]
    assert tagged.end(site["stack_id"], "serving", grace=0) == []
    assert ended(orphan)


def test_a_tag_behind_a_hole_in_the_environment_is_read(monkeypatch: pytest.MonkeyPatch):
    block = b"\0\0\0xx\0\0STACKYARD_STACK_ID=0123abcd\0\0STACKYARD_PROCESS=serving\0"
    monkeypatch.setattr(Path, "read_bytes", lambda self: block)
    assert tagged.tags_of(1) == {"STACKYARD_STACK_ID": "0123abcd", "STACKYARD_PROCESS": "serving"}


class Program:
    """As much of a supervised program as its back-off needs."""

    def __init__(self) -> None:
        self.backoff = 0

    def change_state(self, new_state: int, expected: bool = True) -> None:
        self.backoff += 1


def test_the_wait_between_starts_grows_and_stays_bounded():
    from supervisor.states import ProcessStates

    class Bounded(Program):
        pass

    bounded(Bounded)  # pyright: ignore[reportArgumentType]
    program, waits = Bounded(), []
    for _ in range(50):
        program.change_state(ProcessStates.BACKOFF)
        waits.append(program.backoff)
    assert waits[:3] == [1, 2, 3]
    assert max(waits) == waits[-1] == LONGEST_WAIT


def test_the_environment_of_a_stack_is_a_list_of_what_is_let_in():
    given = {
        "HOME": "/home/a", "PATH": "/bin", "LC_ALL": "C", "https_proxy": "http://proxy", "no_proxy": "intranet",
        "PULUMI_CONFIG_PASSPHRASE": "x", "PULUMI_ACCESS_TOKEN": "x", "AWS_SECRET_ACCESS_KEY": "x", "PYTHONPATH": "/x",
        "GITHUB_TOKEN": "x", "RAY_ADDRESS": "somebody-elses:6379", "MLFLOW_TRACKING_URI": "x", "VIRTUAL_ENV": "/x",
    }  # fmt: skip
    loopback = "127.0.0.1,localhost,127.0.0.0/8"
    assert surroundings(given) == {
        "HOME": "/home/a", "PATH": "/bin", "LC_ALL": "C", "https_proxy": "http://proxy",
        "no_proxy": f"intranet,{loopback}", "NO_PROXY": loopback,
    }  # fmt: skip


def test_the_folder_in_tmp_is_locked_so_that_the_system_does_not_tidy_it_away(supervisor: dict):
    import fcntl

    folder = os.open(supervisor["site"]["runtime"], os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(folder)


def test_the_provider_says_its_port_and_nothing_else_and_ends_with_its_engine(tmp_path: Path):
    command = str(Path(provider_package.__file__).with_name("pulumi-resource-stackyard"))
    engine = subprocess.Popen(
        ["sh", "-c", '"$0" 127.0.0.1:1 > out & echo $!; wait', command], stdout=subprocess.PIPE, cwd=tmp_path, text=True
    )
    assert engine.stdout is not None
    (tmp_path / "out").touch()
    provider = psutil.Process(int(engine.stdout.readline()))
    until(lambda: (tmp_path / "out").read_text().endswith("\n"), "the port is said")
    assert (tmp_path / "out").read_text().strip().isdigit()
    engine.kill()
    engine.wait()
    engine.stdout.close()
    until(lambda: ended(provider), "the provider ends by itself")
