"""Whatever takes longer than a look at the world is found out by a child process, which also bears the user's code.

The controller holds the release key and must answer at once; features and figures are the project's own functions,
which may print, hang, eat memory or die. So a child without keys and secrets computes, asked by JSON lines, one
question at a time; it is ended and asked anew when it dies or takes too long. Every question may be repeated: what was
found out lies in the store under names that follow from its inputs.

Questions and their answers (dates are ISO; `now` is the model's clock, and nothing later than it exists):

`days`: {days: [date], champion: digest, now, released: {date: time} = {}}
    -> {days: {date: {summaries: [DaySummary], facts, troubles, quality: {findings: [...]}, quarantined: bool}}}
`verdicts`: {until: date (excluded), champion: digest, now, released = {}, data_end: date | None = None}
    -> Verdicts.plain() and {labelled_until: date (excluded), new_rows, quarantined: [date], released: [date],
       metric_alarm, drift_alarm: text | None, shift_since: date | None, champion_data_end: date | None, freshness:
       finding | None, release_figures, troubles: {date: {what: why}}}. `released` are days that a person let go,
       and when; new_rows counts labelled rows from `data_end` (absent: what the champion's bundle says, else the end
       of the spec's window) up to labelled_until, quarantined days left out. No day at or after labelled_until may
       teach.
`gate`: {run_id} -> GateReport.plain(); equal for equal results.
`stage`: {release: number, now, step} or, after a promotion, {release, now, watch: true}
    -> StageVerdict.plain() (action, reason, checks, until) and {figures, release, step, now}.
Every kind takes `released`, and may pass it over.

Whatever fails is an answer, too: {"error": text for people}.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from stackyard.control import answering

LONGEST = 600.0
"""Seconds a question may take; one more try, and it has failed."""
TRIES = 2
LARGEST = 64 << 20
"""Bytes of one answer."""
LONGEST_LOG = 16 << 20
"""Bytes of what user code printed; a new child begins a longer one anew."""
KEPT = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER", "VIRTUAL_ENV", "STACKYARD_STACK_ID", "STACKYARD_PROCESS")
"""What the child sees of its parent's environment; the two tags let a stack find all that is its own."""
STORE_KEYS = ("AWS_", "GOOGLE_", "AZURE_")
"""What opens a store that is not a folder."""


class WorkerSettings(BaseModel):
    """The settings file of `python -m stackyard.control.worker`; holds nothing secret."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    """The model's name."""
    store: str
    """Folder or URL of the object store."""
    project: dict[str, Any]
    """The project spec in plain form."""
    cache: Path
    """Local copies of bundles and code; may vanish."""
    trusted: tuple[str, ...]
    """Public halves of the release keys."""


@dataclass(frozen=True)
class _Question:
    ticket: str
    line: bytes


@dataclass
class Worker:
    """The child and its questions. `ask` and `poll` return at once; the child starts with the first question."""

    settings: WorkerSettings
    folder: Path
    """Where its settings and its log are (0700)."""
    longest: float = LONGEST
    command: tuple[str, ...] = (sys.executable, "-m", "stackyard.control.worker")
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _asked: queue.SimpleQueue[_Question | None] = field(default_factory=queue.SimpleQueue)
    _found: queue.SimpleQueue[tuple[str, dict[str, Any]]] = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None
    _child: subprocess.Popen[bytes] | None = None
    _ending: bool = False
    _starting: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, kind: str, **arguments: Any) -> str:
        """Begin to find out; the ticket names the answer. Arguments are JSON values."""
        ticket = f"{kind}-{next(self._numbers)}"
        line = json.dumps({"ticket": ticket, "kind": kind, "arguments": arguments}).encode() + b"\n"
        self._asked.put(_Question(ticket, line))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
            self._thread.start()
        return ticket

    def poll(self) -> Mapping[str, dict[str, Any]]:
        """The answers since the last call, by ticket: `{"result": ...}` or `{"error": text}`."""
        found = {}
        while True:
            try:
                ticket, answer = self._found.get_nowait()
            except queue.Empty:
                return found
            found[ticket] = answer

    @property
    def answered(self) -> bool:
        """Whether `poll` has something to give."""
        return not self._found.empty()

    def stop(self) -> None:
        """End the child; open questions get no answer."""
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
            self._found.put((question.ticket, self._answer(question)))
        self._end_child()

    def _answer(self, question: _Question) -> dict[str, Any]:
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

    def _try(self, question: _Question) -> dict[str, Any]:
        child = self._living()
        assert child.stdin is not None and child.stdout is not None
        try:
            child.stdin.write(question.line)
            child.stdin.flush()
        except OSError:
            raise _GoneError("the worker died before it was asked") from None
        answer = _parsed(self._line(child))
        if answer is None or answer.get("ticket") != question.ticket:
            raise _GoneError("the worker's answer cannot be read")
        return {name: answer[name] for name in ("result", "error") if name in answer}

    def _line(self, child: subprocess.Popen[bytes]) -> bytes:
        """One whole line of the child. Raises _GoneError when it dies, takes too long or says too much."""
        assert child.stdout is not None
        deadline, parts, size = time.monotonic() + self.longest, [], 0
        while True:
            ready, _, _ = select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise _GoneError(f"no answer within {self.longest:g} s")
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
        path = self.folder / "worker.json"
        path.write_text(self.settings.model_dump_json())
        kept = self.folder / "worker.log"
        long = kept.exists() and kept.stat().st_size > LONGEST_LOG
        with kept.open("wb" if long else "ab") as log:
            return subprocess.Popen(
                [*self.command, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                env=surroundings(os.environ, self.settings.store),
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


def main(path: str) -> int:
    """Answer until the parent closes the pipe, and never outlive it."""
    read, write = answering.private_pipes()
    answering.end_with_parent()
    from stackyard.control.findings import Findings

    findings = Findings.of(WorkerSettings.model_validate_json(Path(path).read_bytes()))
    answering.serve(findings.answer, read, write)
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
