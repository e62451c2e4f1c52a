"""A checkout of the tests' own, driven as a user drives it: by make and pulumi; and somebody who keeps asking."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

HERE = Path(__file__).resolve().parents[2]

CANARY = "c4n4ry-5ecret-value-9f2b"
"""A secret that must be found nowhere in clear but in the one private file made for it."""


@dataclass
class Checkout:
    """A copy of this checkout and the commands a user types in it."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    stack: str = "local"
    within: tuple[str, ...] = ()
    """What each command is run by, such as `nsenter` into another network."""

    def run(self, *command: str, seconds: float = 600) -> subprocess.CompletedProcess[str]:
        """Run `command` in the shell that `source tools/activate` gives."""
        return subprocess.run(
            self._in_shell(command),
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def make(self, target: str, seconds: float = 900) -> str:
        """Run `make target`, which must succeed; returns what it printed."""
        command = [*self.within, "make", target, f"STACK={self.stack}"]
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment(), capture_output=True, text=True, timeout=seconds
        )
        assert done.returncode == 0, f"make {target} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start `command` in such a shell, in a session of its own."""
        return subprocess.Popen(
            self._in_shell(command),
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def card(self) -> dict[str, Any]:
        """What `up` left for `stackyard status`."""
        return json.loads((self.folder / ".stackyard" / self.stack / "stack.json").read_text())

    def status(self) -> dict[str, Any]:
        """`stackyard status --json`."""
        done = self.run("stackyard", "status", "-s", self.stack, "--json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def predict(self, client: httpx.Client | None = None) -> httpx.Response:
        """One prediction over HTTP."""
        body = json.loads((self.folder / "examples" / "flights" / "request.json").read_text())
        return (client or httpx.Client(trust_env=False, timeout=10)).post(
            self.card()["addresses"]["predict"], json=body
        )

    def processes(self, stack_id: str) -> list[psutil.Process]:
        """Every living process of the stack: by its tag, or, since Ray's daemons write over it, by what they hold."""
        return [p for p in psutil.process_iter() if _alive(p) and (_tag(p) == stack_id or _holds(p, stack_id))]

    def _in_shell(self, command: tuple[str, ...]) -> list[str]:
        script = f'source tools/activate {self.stack} && exec "$@"'
        return [*self.within, "bash", "-c", script, "bash", *command]

    def _environment(self) -> dict[str, str]:
        ours = ("PULUMI_", "STACKYARD_", "RAY_", "MLFLOW_")
        return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | self.environment


@dataclass
class Load:
    """Somebody who keeps asking, and counts answers."""

    checkout: Checkout
    codes: dict[int | str, int] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def failed(self) -> int:
        """Answers other than 200, and requests without one."""
        return sum(count for code, count in self.codes.items() if code != 200)

    def _ask(self) -> None:
        with httpx.Client(trust_env=False, timeout=30) as client:
            while not self._stop.is_set():
                try:
                    code: int | str = self.checkout.predict(client).status_code
                except httpx.HTTPError as error:
                    code = type(error).__name__
                self.codes[code] = self.codes.get(code, 0) + 1


def until(condition: Callable[[], Any], what: str, seconds: float = 240) -> Any:
    """Wait for `condition`, with a deadline; returns what it gave."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except (OSError, httpx.HTTPError, psutil.Error, ValueError, AssertionError):
            pass
        time.sleep(0.25)
    raise AssertionError(f"not within {seconds} s: {what}")


def port_is_free(port: int) -> bool:
    """Whether nobody listens on a loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _tag(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("STACKYARD_STACK_ID")
    except psutil.Error:
        return None


def _holds(process: psutil.Process, stack_id: str) -> bool:
    runtime = f"/tmp/sy-{os.getuid()}-{stack_id}/"
    try:
        return any(runtime in text for text in [*process.cmdline(), *(file.path for file in process.open_files())])
    except psutil.Error:
        return False


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


SECRETIVE = '''

def read(start, end):
    """Needs the warehouse's token, as a source behind a login does."""
    if not os.environ["WAREHOUSE_TOKEN"]:
        raise PermissionError("no token")
    return _read(start, end)
'''


def copy_of_this_checkout(folder: Path) -> Checkout:
    """A copy in `folder` of everything git would track, not set up; its flights need a secret."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=HERE,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (HERE / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(HERE / name, folder / name)
    project = folder / "examples" / "flights" / "project.yaml"
    text = project.read_text()
    assert "    python: flights_data:read\n" in text
    project.write_text(
        text.replace(
            "    python: flights_data:read\n", "    python: flights_data:read\n    secrets: [WAREHOUSE_TOKEN]\n"
        )
    )
    source = folder / "examples" / "flights" / "flights_data.py"
    source.write_text(source.read_text() + "\nimport os\n\n_read = read\n" + SECRETIVE)
    return Checkout(folder)
