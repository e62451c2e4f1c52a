"""Running what takes long, and waiting for what comes up: always bounded, and a failure shows the end of its log."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from machine import say

FAILED = 1
"""Exit status: it was begun and did not come about; its log says why."""

_SHOWN = 15
_POLL_SECONDS = 0.2


def run(
    what: str,
    command: list[str],
    log: Path,
    limit: float,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> None:
    """Run `command` with everything it says in `log`, at the lowest priority, for at most `limit` seconds."""
    log.parent.mkdir(parents=True, exist_ok=True)
    progress = say.Progress(what)
    with log.open("w") as out:
        process = subprocess.Popen(
            ["nice", "-n", "19", *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
        try:
            status = _watched(process, progress, limit)
        except BaseException:
            _end(process)
            raise
    if status is None:
        _end(process)
        fail(f"{what}: not done after {limit:.0f} s, given up", log)
    if status:
        fail(f"{what}: ended with status {status}", log)
    progress.done()


def until(what: str, check: Callable[[], object], limit: float, log: Path, alive: Callable[[], bool]) -> None:
    """Ask `check` until it says something true. Give up after `limit` seconds, or at once when `alive` no more."""
    end = time.monotonic() + limit
    while not check():
        if not alive():
            fail(f"waiting for {what}: the cluster ended", log)
        if time.monotonic() > end:
            fail(f"waiting for {what}: not there after {limit:.0f} s", log)
        time.sleep(_POLL_SECONDS)


def fail(sentence: str, log: Path) -> NoReturn:
    """Say what failed, the end of its log, and where the rest is."""
    for text in tail(log):
        say.line(f"  {text}")
    say.stop(f"{sentence}; the end of its log is above, all of it in {log}.", FAILED)


def tail(log: Path, count: int = _SHOWN) -> list[str]:
    """The last lines of a log, each cut at 300 characters; nothing when there is no such file."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 20_000))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [line[:300] for line in lines[-count:]]


def _watched(process: subprocess.Popen[bytes], progress: say.Progress, limit: float) -> int | None:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        try:
            return process.wait(1.0)
        except subprocess.TimeoutExpired:
            progress.at("at work")
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it with everything it started: it leads a session of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
