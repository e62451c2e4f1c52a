"""The controller's worker: whatever user code does in it, every question gets one answer."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stackyard.control.child import Child, surroundings
from stackyard.control.worker import Worker, WorkerSettings

SCRIPT = """
import os, signal, subprocess, sys, time
from pathlib import Path
from stackyard.control import answering

folder = Path(sys.argv[1]).parent
read, write = answering.private_pipes()

def answer(kind, arguments):
    if kind == "add":
        return arguments["a"] + arguments["b"]
    if kind == "noise":
        print("x" * 100_000)
        os.write(1, b'{"ticket": "forged", "result": 1}\\n')
        sys.stdout.flush()
        subprocess.run(["echo", "more noise"])
        return [sys.stdin.read(), float("nan"), {1: float("inf")}]
    if kind == "raise":
        raise RuntimeError("first line\\nsecond line")
    if kind == "exit":
        sys.exit(3)
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "die-once":
        if not (folder / "died").exists():
            (folder / "died").touch()
            os._exit(7)
        return "second time"
    if kind == "hang":
        subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL)
        time.sleep(1000)
    if kind == "garbage":
        os.write(write, b"this is no JSON\\n")
    if kind == "environment":
        return dict(os.environ)
    if kind == "big":
        return "y" * 3_000_000
    if kind in ("pid", "stage"):
        return os.getpid()
    if kind == "eat":
        eaten = []
        for _ in range(arguments["mib"] // 16):
            eaten.append(b"x" * (16 << 20))
            time.sleep(0.02)
        return len(eaten)

answering.serve(answer, read, write)
"""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    settings = WorkerSettings(model="m", store="nowhere", project={}, cache=tmp_path, trusted=(), memory=256 << 20)
    made = Worker(settings, tmp_path / "worker", command=(sys.executable, str(script)))
    yield made
    made.stop()
    assert made.pids == ()


def answer(worker: Worker, kind: str, **arguments: Any) -> dict[str, Any]:
    ticket = worker.ask(kind, **arguments)
    found = wait(worker.poll)
    assert set(found) == {ticket}
    return found[ticket]


def wait(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


ANSWERS: dict[str, dict[str, Any]] = {
    "noise": {"result": ["", None, {"1": None}]},
    "raise": {"error": "RuntimeError: first line"},
    "exit": {"error": "SystemExit: 3"},
    "die": {"error": "the worker died (SIGKILL) while it computed; its log says more"},
    "die-once": {"result": "second time"},
    "garbage": {"error": "the worker's answer cannot be read"},
    "big": {"result": "y" * 3_000_000},
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_every_question_gets_one_answer_and_the_next_one_another(worker: Worker, kind: str) -> None:
    assert answer(worker, kind) == ANSWERS[kind]
    assert answer(worker, "add", a=2, b=3) == {"result": 5}


def test_asking_returns_at_once_and_answers_come_in_order(worker: Worker) -> None:
    began = time.monotonic()
    tickets = [worker.ask("add", a=number, b=1) for number in range(20)]
    assert time.monotonic() - began < 1
    found: dict[str, Any] = {}
    wait(lambda: found.update(worker.poll()) or len(found) == 20)
    assert list(found) == tickets
    assert [each["result"] for each in found.values()] == list(range(1, 21))


def test_a_question_that_takes_too_long_ends_with_its_children_and_an_error(worker: Worker) -> None:
    worker.longest = 1.0
    assert answer(worker, "hang") == {"error": "no answer within 1 s"}
    worker.longest = 60.0
    assert answer(worker, "add", a=1, b=1) == {"result": 2}


def test_a_stage_is_answered_while_another_question_hangs(worker: Worker) -> None:
    hangs = worker.ask("hang")
    first = answer(worker, "stage")["result"]
    assert answer(worker, "stage") == {"result": first}
    wait(lambda: len(worker.pids) == 2)
    assert first in worker.pids and hangs not in worker.poll()


def test_each_kind_has_its_time(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, float]] = []
    monkeypatch.setattr(Child, "ask", lambda child, question: asked.append((child.name, question.seconds)))
    worker.longest, worker.longest_stage = 7.0, 3.0
    for kind in ("days", "verdicts", "gate", "stage"):
        worker.ask(kind)
    assert asked == [("worker", 7.0)] * 3 + [("stage", 3.0)]


def test_a_child_that_takes_too_much_memory_is_ended_and_what_takes_less_is_answered(worker: Worker) -> None:
    assert answer(worker, "eat", mib=64) == {"result": 4}
    said = answer(worker, "eat", mib=2048)["error"]
    assert re.fullmatch(r"the worker was ended .* took \d+ MiB of memory and may take 256; its log says more", said)
    assert answer(worker, "add", a=1, b=1) == {"result": 2}


def test_the_child_sees_no_secret_and_keeps_the_tags_of_its_stack(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PULUMI_CONFIG_PASSPHRASE", "AWS_SECRET_ACCESS_KEY", "DATABASE_PASSWORD", "STACKYARD_TOKEN"):
        monkeypatch.setenv(name, "canary")
    monkeypatch.setenv("STACKYARD_STACK_ID", "0123abcd")
    seen = answer(worker, "environment")["result"]
    assert "canary" not in seen.values()
    assert seen["STACKYARD_STACK_ID"] == "0123abcd"
    assert surroundings({"AWS_REGION": "x", "AWS": "y"}, "s3://bucket") == {"AWS_REGION": "x"}


def test_the_child_ends_with_its_parent_even_while_it_hangs(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\nfrom stackyard.control import answering\n" + HANGING)
    parent = tmp_path / "parent.py"
    parent.write_text(PARENT.format(folder=str(tmp_path), script=str(script)))
    with subprocess.Popen([sys.executable, str(parent)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
    wait(lambda: not os.path.exists(f"/proc/{child}") or "Z (zombie)" in Path(f"/proc/{child}/status").read_text())


HANGING = """
import time
read, write = answering.private_pipes()
answering.end_with_parent()
answering.serve(lambda kind, arguments: time.sleep(1000) if kind == "hang" else __import__("os").getpid(), read, write)
"""
PARENT = """
import sys, time
from pathlib import Path
from stackyard.control.worker import Worker, WorkerSettings
folder = Path({folder!r})
settings = WorkerSettings(model="m", store="nowhere", project={{}}, cache=folder, trusted=())
worker = Worker(settings, folder / "worker", command=(sys.executable, {script!r}))
worker.ask("pid")
while not (found := worker.poll()):
    time.sleep(0.01)
worker.ask("hang")
print(next(iter(found.values()))["result"], flush=True)
time.sleep(1000)
"""
