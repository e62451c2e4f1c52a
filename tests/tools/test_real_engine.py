"""The real engine with our settings, under an odd path: what plain `pulumi` does, and what a kill -9 leaves behind.

Slow (three engine runs), and worth it: percent-encoding, the stand-in host and the form of a lock are the engine's to
decide, and no fake would notice a change.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from machine import backend, commands, engine, environment, say

pytestmark = [pytest.mark.engine, pytest.mark.slow]

PROJECT = """
name: stackyard
runtime: {name: python, options: {toolchain: pip, virtualenv: .venv}}
main: infra/
stackConfigDir: stacks
"""
WAITS = """
import pathlib, time, pulumi
pulumi.export("answer", 42)
if pathlib.Path("wait").exists():
    pathlib.Path("waiting").touch()
    time.sleep(600)
"""
FAILS = """
import pulumi
raise pulumi.RunError("the spec is wrong: stacks/local.yaml:2")
"""


@pytest.fixture
def settings(checkout: Path) -> dict[str, str]:
    (checkout / "Pulumi.yaml").write_text(PROJECT)
    (checkout / "infra" / "__main__.py").write_text(WAITS)
    chosen = engine.choose()
    seen = environment.applied(environment.changes("local", chosen, os.environ), os.environ)
    commands._ensure_stack("local", seen)
    return seen


def pulumi(checkout: Path, settings: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["pulumi", *arguments, "--stack", "local", "--non-interactive"]
    return subprocess.run(command, cwd=checkout, env=settings, capture_output=True, text=True, timeout=120)


def killed_in_the_middle(checkout: Path, settings: dict[str, str]) -> int:
    (checkout / "infra" / "wait").touch()
    command = ["pulumi", "up", "--stack", "local", "--yes", "--skip-preview", "--non-interactive"]
    process = subprocess.Popen(
        command,
        cwd=checkout,
        env=settings,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (checkout / "infra" / "waiting").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (checkout / "infra" / "wait").unlink()
    return process.pid


def assert_nobody_left(checkout: Path) -> None:
    """The language host ends soon after its engine, though nobody told it to."""
    deadline, inside = time.monotonic() + 10, []
    while time.monotonic() < deadline:
        inside = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "cwd").readlink().is_relative_to(checkout):
                    inside.append(process.name)
            except OSError:
                continue
        if not inside:
            return
        time.sleep(0.1)
    pytest.fail(f"still at work in the checkout: {inside}")


def test_plain_pulumi_works_and_says_an_error_once(checkout: Path, settings: dict[str, str]) -> None:
    assert pulumi(checkout, settings, "up", "--yes", "--skip-preview").returncode == 0
    answer = pulumi(checkout, settings, "stack", "output", "--json")
    assert json.loads(answer.stdout) == {"answer": 42}
    (checkout / "infra" / "__main__.py").write_text(FAILS)
    failed = pulumi(checkout, settings, "preview")
    assert failed.returncode != 0
    # Once where it happens and once in the summary.
    assert (failed.stdout + failed.stderr).count("the spec is wrong") <= 2
    assert "unhandled" not in failed.stdout + failed.stderr


def test_after_a_kill_the_lock_stays_for_plain_pulumi_and_our_commands_clear_it(
    checkout: Path, settings: dict[str, str]
) -> None:
    pid = killed_in_the_middle(checkout, settings)
    assert_nobody_left(checkout)
    refused = pulumi(checkout, settings, "up", "--yes", "--skip-preview")
    assert refused.returncode != 0
    assert "the stack is currently locked by 1 lock(s)" in refused.stdout + refused.stderr
    locks = list((checkout / ".stackyard" / "backend" / ".pulumi" / "locks").rglob("*.json"))
    assert [json.loads(lock.read_text())["pid"] for lock in locks] == [pid]
    commands._heal("local", settings, adopt=False)
    assert pulumi(checkout, settings, "up", "--yes", "--skip-preview").returncode == 0


def test_a_living_pulumi_keeps_its_lock_and_we_say_who_it_is(
    checkout: Path, settings: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = backend.folder(settings["PULUMI_BACKEND_URL"])
    assert folder
    lock = folder / ".pulumi" / "locks" / "organization" / "stackyard" / "local" / "x.json"
    lock.parent.mkdir(parents=True, exist_ok=True)
    now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    lock.write_text(
        json.dumps({"pid": os.getpid(), "username": "ada", "hostname": os.uname().nodename, "timestamp": now})
    )
    with pytest.raises(say.Stop) as stopped:
        commands._heal("local", settings, adopt=False)
    assert stopped.value.code == say.BUSY
    assert f"process {os.getpid()} of ada" in capsys.readouterr().err


def test_a_lost_state_is_started_afresh_and_a_lost_stack_file_is_made_again(
    checkout: Path, settings: dict[str, str]
) -> None:
    assert pulumi(checkout, settings, "up", "--yes", "--skip-preview").returncode == 0
    (checkout / "stacks" / "Pulumi.local.yaml").unlink()
    assert pulumi(checkout, settings, "up", "--yes", "--skip-preview").returncode == 0
    shutil.rmtree(checkout / ".stackyard")
    commands._ensure_stack("local", settings)
    assert pulumi(checkout, settings, "up", "--yes", "--skip-preview").returncode == 0
    assert list((checkout / "stacks").glob("Pulumi.local.yaml.old-*"))


def test_what_a_killed_up_had_begun_to_create_is_forgotten_by_the_state_and_nothing_else_is(
    checkout: Path, settings: dict[str, str]
) -> None:
    assert pulumi(checkout, settings, "up", "--yes", "--skip-preview").returncode == 0
    folder = backend.folder(settings["PULUMI_BACKEND_URL"])
    state = folder and backend.checkpoint(folder, "local")
    assert folder
    assert state
    content = json.loads(state.read_text())
    latest = content["checkpoint"]["latest"]
    begun = {
        "urn": "urn:pulumi:local::stackyard::other:index:Thing::half-made",
        "custom": True,
        "type": "other:index:Thing",
        "parent": latest["resources"][0]["urn"],
    }
    latest["pending_operations"] = [{"resource": begun, "type": "creating"}]
    state.write_text(json.dumps(content))
    assert backend.pending(folder, "local") == [begun["urn"]]

    commands._heal("local", settings, adopt=True)

    assert backend.pending(folder, "local") == []
    kept = json.loads(state.read_text())["checkpoint"]["latest"]["resources"]
    assert [resource["urn"] for resource in kept] == [resource["urn"] for resource in latest["resources"]]
