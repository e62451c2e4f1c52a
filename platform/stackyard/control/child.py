"""A process that computes what it is asked, seen from its parent: one question at a time, and an answer to each.

It is ended, with all it started, when it takes too long, too much memory or talks nonsense; then it is asked once more.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TRIES = 2
"""How often a question is asked before it has failed."""
LARGEST = 64 << 20
"""Bytes of one answer."""
LONGEST_LOG = 16 << 20
"""Bytes of what user code printed; a new child begins a longer one anew."""
WATCH_SECONDS = 0.05
"""How often memory is looked at while an answer is awaited: memory is taken at about 4 GB a second."""
KEPT = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER", "VIRTUAL_ENV", "STACKYARD_STACK_ID", "STACKYARD_PROCESS")
"""What the child sees of its parent's environment; the two tags let a stack find all that is its own."""
STORE_KEYS = ("AWS_", "GOOGLE_", "AZURE_")
"""What opens a store that is not a folder."""

Found = queue.SimpleQueue[tuple[str, dict[str, Any]]]
"""Tickets and their answers."""
_PAGE = os.sysconf("SC_PAGESIZE")


@dataclass(frozen=True)
class Question:
    """What a child is asked."""

    ticket: str
    line: bytes
    seconds: float
    """How long one try may take."""


@dataclass
class Child:
    """One child, which starts with the first question, and its questions."""

    name: str
    """Of its settings and its log."""
    folder: Path
    settings: str
    """Content of its settings file."""
    store: str
    memory: int
    """Bytes it may have in memory."""
    command: tuple[str, ...]
    found: Found
    """Where answers go."""
    _asked: queue.SimpleQueue[Question | None] = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None
    _child: subprocess.Popen[bytes] | None = None
    _ending: bool = False
    _starting: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, question: Question) -> None:
        """Put `question` behind those that wait."""
        self._asked.put(question)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the child; open questions get no result."""
        self._ending = True
        self._asked.put(None)
        with self._starting:
            if self._child is not None:
                _kill(self._child)
        if self._thread is not None:
            self._thread.join(10)

    @property
    def pid(self) -> int | None:
        """The child's, while it lives."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    def _run(self) -> None:
        while (question := self._asked.get()) is not None and not self._ending:
            self.found.put((question.ticket, self._answer(question)))
        self._end_child()

    def _answer(self, question: Question) -> dict[str, Any]:
        failure = ""
        for _ in range(TRIES):
            if self._ending:
                break
            try:
                return self._try(question)
            except _GoneError as error:
                failure = str(error)
                self._end_child()
            except OSError as error:
                return {"error": f"the worker cannot be started: {error}"}
        return {"error": failure or "the worker was stopped"}

    def _try(self, question: Question) -> dict[str, Any]:
        child = self._living()
        assert child.stdin is not None and child.stdout is not None
        try:
            child.stdin.write(question.line)
            child.stdin.flush()
        except OSError:
            raise _GoneError("the worker died before it was asked") from None
        answer = _parsed(self._line(child, question.seconds))
        if answer is None or answer.get("ticket") != question.ticket:
            raise _GoneError("the worker's answer cannot be read")
        return {name: answer[name] for name in ("result", "error") if name in answer}

    def _line(self, child: subprocess.Popen[bytes], seconds: float) -> bytes:
        """One whole line of the child. Raises _GoneError when it dies, takes or says too much or takes too long."""
        assert child.stdout is not None
        deadline, parts, size = time.monotonic() + seconds, [], 0
        while True:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([child.stdout], [], [], max(0.0, min(left, WATCH_SECONDS)))
            taken = _resident(child.pid)
            if taken > self.memory:
                told = f"it took {taken >> 20} MiB of memory and may take {self.memory >> 20}"
                raise _GoneError(f"the worker was ended while it computed: {told}; its log says more")
            if not ready and left <= 0:
                raise _GoneError(f"no answer within {seconds:g} s")
            if not ready:
                continue
            part = os.read(child.stdout.fileno(), 1 << 20)
            if not part:
                raise _GoneError(f"the worker died ({_how(child)}) while it computed; its log says more")
            parts.append(part)
            size += len(part)
            if part.endswith(b"\n"):
                return b"".join(parts)
            if size > LARGEST:
                raise _GoneError(f"an answer of more than {LARGEST >> 20} MiB")

    def _living(self) -> subprocess.Popen[bytes]:
        with self._starting:
            if self._ending:
                raise _GoneError("the worker was stopped")
            if self._child is not None and self._child.poll() is not None:
                self._end_child()
            if self._child is None:
                self._child = self._start()
            return self._child

    def _start(self) -> subprocess.Popen[bytes]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / f"{self.name}.json"
        path.write_text(self.settings)
        kept = self.folder / f"{self.name}.log"
        long = kept.exists() and kept.stat().st_size > LONGEST_LOG
        with kept.open("wb" if long else "ab") as log:
            return subprocess.Popen(
                [*self.command, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                env=surroundings(os.environ, self.store),
                start_new_session=True,
            )

    def _end_child(self) -> None:
        """On the worker's own thread: end the child and let go of its pipes."""
        child, self._child = self._child, None
        if child is not None:
            _kill(child)
            for pipe in (child.stdin, child.stdout):
                assert pipe is not None
                pipe.close()


class _GoneError(Exception):
    """The child gave no answer."""


def surroundings(environment: Mapping[str, str], store: str) -> dict[str, str]:
    """What of the environment the child sees: no secret of the stack, of Pulumi or of a shell is among it."""
    prefixes = ("LC_", *(STORE_KEYS if "://" in store else ()))
    return {name: value for name, value in environment.items() if name in KEPT or name.startswith(prefixes)}


def _resident(pid: int) -> int:
    """Bytes that process `pid` has in memory; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def _kill(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)  # user code may have children
    child.wait()


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _how(child: subprocess.Popen[bytes]) -> str:
    try:
        code = child.wait(5)
    except subprocess.TimeoutExpired:
        return "it closed its pipe"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
