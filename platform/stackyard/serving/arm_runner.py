"""The replica's hand on its challenger's process: asked with a time limit, watched for memory, ended for certain."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from stackyard.serving import arm_wire
from stackyard.serving.arm_wire import Result, WireError
from stackyard.serving.model import Face

START_SECONDS = 30.0
"""To load libraries, code and model, on a busy machine."""
WATCH_SECONDS = 0.02
"""How often memory is looked at while an answer is awaited: memory is taken at about 4 GB a second."""

_INHERITED = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR", "TZ")
_PAGE = os.sysconf("SC_PAGESIZE")


class ArmTimeoutError(Exception):
    """No answer within the time."""


class ArmDiedError(Exception):
    """The process ended, took too much memory, or talked nonsense."""


@dataclass(frozen=True)
class Prepared:
    """A challenger's bundle that survived its trial: where it lies, and what it says of itself."""

    folder: Path
    code_folder: Path
    face: Face


class Runner:
    """One process. For one thread, the one that made it: the process dies with that thread."""

    def __init__(self, prepared: Prepared, memory: int, nice: int) -> None:
        self._memory, self._face = memory, prepared.face
        self._inbox, self._owing = bytearray(), False
        self._link, other = socket.socketpair()
        self._link.setblocking(False)
        kept = {
            name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith("STACKYARD_")
        }
        folders = [str(prepared.folder), prepared.face.bundle, str(prepared.code_folder)]
        numbers = [str(memory), str(os.getpid()), str(nice)]
        with other:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stackyard.serving.arm_process", str(other.fileno()), *folders, *numbers],
                env=kept | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"},  # no token, no secret of the replica
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def wait_ready(self, wanted: Callable[[], bool]) -> None:
        """Until it can be asked, or is no more `wanted`. Raises ArmDiedError or ArmTimeoutError."""
        self._receive(time.monotonic() + START_SECONDS, wanted)

    def ask(self, frame: pl.DataFrame, counts: list[int], seconds: float) -> list[Result]:
        """One result per request of `counts` rows. Raises ArmTimeoutError (see `forgive`) or ArmDiedError."""
        until = time.monotonic() + seconds
        if self._inbox:
            raise ArmDiedError("it spoke without being asked")
        self._send(arm_wire.framed(arm_wire.question(frame, counts)), until)
        self._owing = True
        answer = self._receive(until)
        self._owing = False
        try:
            return arm_wire.read_answer(answer, counts, self._face.outputs)
        except WireError as error:
            raise ArmDiedError(f"it sent {error}") from None

    def forgive(self, seconds: float, wanted: Callable[[], bool]) -> None:
        """Wait on for the answer that came too late, and drop it. Raises ArmTimeoutError or ArmDiedError."""
        if not self._owing:  # it did not even take the question
            raise ArmTimeoutError
        self._receive(time.monotonic() + seconds, wanted)
        self._owing = False

    def look(self) -> None:
        """See that it lives within its memory. Raises ArmDiedError."""
        try:
            taken = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * _PAGE
        except (OSError, ValueError, IndexError):
            taken = 0
        if taken > self._memory:
            raise ArmDiedError(f"it took {taken >> 20} MiB of memory; it may take {self._memory >> 20}")
        code = self.process.poll()
        if code is not None:
            raise ArmDiedError(f"its process ended with {f'signal {-code}' if code < 0 else f'exit {code}'}")

    def end(self) -> None:
        """Kill it and what it started; returns when it is gone."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self._link.close()
        with suppress(subprocess.TimeoutExpired):  # a process in the kernel's hands: the loop above must not wait
            self.process.wait(2.0)

    def _send(self, data: bytes, until: float) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._link.send(view) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, until)
            except OSError:
                raise self._death() from None

    def _receive(self, until: float, wanted: Callable[[], bool] = lambda: True) -> bytes:
        """One message; what came of it stays where it is if this raises ArmTimeoutError."""
        box, prefix = self._inbox, arm_wire.PREFIX
        while True:
            try:
                end = prefix + arm_wire.size(bytes(box[:prefix])) if len(box) >= prefix else None
            except WireError as error:
                raise ArmDiedError(f"it sent {error}") from None
            if end is not None and len(box) >= end:
                content = bytes(box[prefix:end])
                del box[:end]
                return content
            try:
                part = self._link.recv(1 << 16)
            except BlockingIOError:
                if not wanted():
                    raise ArmDiedError("it is not wanted any more") from None
                self._wait(select.POLLIN, until)
                continue
            except OSError:
                part = b""
            if not part:
                raise self._death()
            box += part

    def _wait(self, event: int, until: float) -> None:
        left = until - time.monotonic()
        if left <= 0:
            raise ArmTimeoutError
        poll = select.poll()
        poll.register(self._link, event)
        if not poll.poll(max(1.0, min(left, WATCH_SECONDS) * 1000)):
            self.look()

    def _death(self) -> ArmDiedError:
        """Why the socket closed; its exit may come a moment later."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(0.1)
        try:
            self.look()
        except ArmDiedError as error:
            return error
        return ArmDiedError("it closed its socket")
