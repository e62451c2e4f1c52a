"""`pulumi` killed -9 right after an event of its engine, on a small stack, healed as `make` heals.

An operation is run once, unharmed, to learn its events; then again for each moment, and killed there.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psutil
import pytest

from machine import backend, commands, engine, environment, places
from stackyard_infra.provider import tagged
from toy import Stack, toy_checkout, wait_until

TRIES = 4
"""An event's last occurrence may come a little earlier the next time, or the engine may end before the kill."""

NOTHING, UP = "nothing", "up"


class Point(NamedTuple):
    """A moment to kill at: the `number`th event of a kind, counted from 1."""

    operation: str
    event: str
    occurrence: str
    number: int
    then: str
    victim: str = "engine"

    @property
    def begins(self) -> str:
        """What must be there before."""
        return NOTHING if self.operation == "up" else UP


class Ground(Stack):
    """A small stack with the settings, and the healing, of `make`."""

    named: tuple[str, ...] = ()
    """Types of resources whose events are kinds of their own, by the end of their names."""

    def __init__(self, folder: Path, chosen: engine.Engine) -> None:
        super().__init__(folder)
        self.chosen = chosen
        # The event log is an option only of an engine that is being looked into.
        settings = environment.applied(environment.changes("local", chosen, os.environ), os.environ)
        self.environment = {**settings, "PULUMI_DEBUG_COMMANDS": "1"}
        self.edition = 0

    def edit(self) -> None:
        """Change what one process runs on."""
        raise NotImplementedError

    def make_up(self) -> int:
        """As `make up` does, up to the parts that need a served model."""
        settings = commands._ready("local", self.chosen)
        return commands._run(["pulumi", "up", "-s", "local", "--yes", "--skip-preview"], settings)

    def make_down(self) -> int:
        """`make down`."""
        return commands.down("local", self.chosen)

    def told(self, operation: str, until: Callable[[str], bool], victim: str = "engine") -> tuple[bool, list[str]]:
        """Run it and kill it -9 when `until(event)`: whether it was, and the events told. Else it must succeed."""
        log = self.folder.parent / "events"
        log.unlink(missing_ok=True)
        os.mkfifo(log)
        arguments = ["destroy" if operation == "destroy" else "up", "--yes", "--skip-preview", "--event-log", str(log)]
        process = subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        events: list[str] = []
        for line in lines_of(log, process):
            events.append(kind(json.loads(line), self.named))
            if until(events[-1]):
                (os.killpg if victim == "group" else os.kill)(process.pid, signal.SIGKILL)
                break
        status = process.wait()
        assert status in (0, -signal.SIGKILL), f"{operation} ended with {status}"
        return status == -signal.SIGKILL, events

    def resources(self) -> list[dict[str, Any]]:
        """What the state knows."""
        file = backend.checkpoint(self.folder / ".stackyard/backend", "local")
        latest = json.loads(file.read_text())["checkpoint"].get("latest") if file else None
        return (latest or {}).get("resources") or []

    def differs(self) -> str:
        """What the next preview would change; empty: nothing."""
        preview = self.command("preview", "--expect-no-changes")
        done = subprocess.run(preview, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        return "" if done.returncode == 0 else f"the next preview has something to change: {done.stdout[-600:]}"

    def leftovers(self) -> list[str]:
        """What is there that should not be, of a stack that was destroyed."""
        state = self.folder / ".stackyard/local"
        found = [f"process {pid}" for pid in self.running()]
        folders = (self.runtime, state / "etc", state / "cache", state / "leases")
        found += [f"folder {path}" for path in folders if path.exists()]
        found += [f"shared memory {path}" for path in tagged.SHARED_MEMORY.iterdir() if self.stack_id in path.name]
        return found + [f"in the state: {resource['urn']}" for resource in self.resources()]

    def strays(self) -> list[str]:
        """Engines, hosts and providers still at work in the checkout."""
        own = self.running()
        return [text for process in psutil.process_iter() if process.pid not in own and (text := self._inside(process))]

    def settled(self) -> list[str]:
        """The strays that are left once they had time to end."""
        with contextlib.suppress(AssertionError):  # they are looked at next
            wait_until(lambda: not self.strays())
        return self.strays()

    def _inside(self, process: psutil.Process) -> str:
        try:
            inside = Path(process.cwd()).is_relative_to(self.folder) and process.status() != psutil.STATUS_ZOMBIE
            return f"process {process.pid} {' '.join(process.cmdline())[:80]}" if inside else ""
        except psutil.Error:
            return ""


G = TypeVar("G", bound=Ground)


@contextlib.contextmanager
def ground(of: type[G], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[G]:
    """A checkout with a small program, in which `make` works; nothing is made of it yet."""
    folder = toy_checkout(tmp_path / "a checkout; 100% #ours")
    names = {"CHECKOUT": ".", "VENV": ".venv", "STATE": ".stackyard", "STACKS": "stacks"}
    for name, below in names.items():
        monkeypatch.setattr(places, name, folder / below)
    monkeypatch.setattr(places, "PROVIDER", folder / "infra/stackyard_infra/provider")
    made = of(folder, engine.choose())
    commands._ready("local", made.chosen)
    try:
        yield made
    finally:
        tagged.end(made.stack_id, grace=1)
        shutil.rmtree(made.runtime, ignore_errors=True)


def lines_of(pipe: Path, writer: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Each line as it is written: a pipe wakes its reader at once, so that a kill comes right after its event."""
    text = b""
    with open(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
        while True:
            over = writer.poll() is not None
            if select.select([file], [], [], 0.2)[0] and (more := file.read(65536)):
                *lines, text = (text + more).split(b"\n")
                yield from lines
            elif over:
                return
            else:
                time.sleep(0.002)  # nobody has opened it yet, or nobody has it open any more


def kind(event: dict[str, dict], named: tuple[str, ...] = ()) -> str:
    """`resourcePreEvent create`: an event's kind, for one of a resource the step; and its type if that is `named`."""
    name = next(key for key in event if key.endswith("Event"))
    about = event[name].get("metadata") or {}
    of = next((each for each in named if str(about.get("type", "")).endswith(f":{each}")), "")
    return " ".join(word for word in (name, about.get("op"), of) if word)


def points_of(operation: str, events: list[str]) -> list[Point]:
    """First, middle and last event of each kind. After a kill in the middle comes the opposite command."""
    same, opposite = ("down", "up") if operation == "destroy" else ("up", "down")
    found = []
    for event, count in Counter(events).items():
        for number, occurrence in sorted({count: "last", (count + 1) // 2: "middle", 1: "first"}.items()):
            then = opposite if occurrence == "middle" else same
            found.append(Point(operation, event, f"{occurrence} of {count}", number, then))
    return found


def in_good_order(points: list[Point], state: str = NOTHING) -> Iterator[Point]:
    """Each point when what it begins with is there anyway, as long as there are such; `state`: what is there first."""
    left = list(points)
    while left:
        point = next((candidate for candidate in left if candidate.begins == state), left[0])
        left.remove(point)
        yield point
        state = UP if point.then == "up" else NOTHING


def killed_at(ground: Ground, point: Point, state: str) -> bool:
    """Kill the operation at that moment, trying again when it ended before."""
    for _ in range(TRIES):
        if point.begins != state:
            assert (ground.make_up() if point.begins == UP else ground.make_down()) == 0
        if point.operation == "update":
            ground.edit()
        seen: Counter[str] = Counter()

        def reached(event: str, seen: Counter[str] = seen, point: Point = point) -> bool:
            seen[event] += 1
            return event == point.event and seen[event] == point.number

        killed, events = ground.told(point.operation, reached, point.victim)
        if killed:
            return True
        state = NOTHING if point.operation == "destroy" else UP
        count = Counter(events)[point.event]
        point = point._replace(number=max(1, min(point.number, count)))
    return False
