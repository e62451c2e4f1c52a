"""The challenger's own process: `python -m stackyard.serving.arm_process SOCKET FOLDER BUNDLE CODE MEMORY PARENT NICE`.

Answers questions on an inherited socket until its replica goes away. It may die, hang or lie at any moment; all that
matters then is that it dies with its replica, cannot take the machine's memory, and is the first to go if memory ends.
It is no sandbox against malice: it runs as the same user.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import polars as pl

from stackyard.serving import arm_wire, model
from stackyard.serving.arm_wire import Miss, Result

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends; at once if `parent` is gone."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def limit(memory: int) -> None:
    """`memory` bytes of address space beyond the libraries', no core file, no files written."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def results(loaded: model.Model, frame: pl.DataFrame, counts: list[int]) -> list[Result]:
    """One result a request; all together, or each alone where that fails."""
    try:
        outputs, found, start = loaded.predict(frame), [], 0
        for count in counts:
            found.append(outputs[start : start + count])
            start += count
        return found
    except Exception as error:  # noqa: BLE001 - the project's own code may raise anything
        if len(counts) == 1:
            outcome = "not_finite" if isinstance(error, model.NotFiniteError) else "error"
            return [Miss(outcome, f"{type(error).__name__}: {error}")]
    alone, start = [], 0
    for count in counts:
        alone += results(loaded, frame.slice(start, count), [count])
        start += count
    return alone


def main(arguments: list[str]) -> int:
    """Until the socket closes (0), or the bundle cannot be loaded (1)."""
    descriptor, folder, bundle, code_folder, memory, parent, nice = arguments
    die_with(int(parent))
    os.nice(int(nice))
    limit(int(memory))
    sys.dont_write_bytecode = True
    link = socket.socket(fileno=int(descriptor))
    loaded = model.load(Path(folder), bundle, Path(code_folder))
    model.warm(loaded)
    link.sendall(arm_wire.framed(b"ready"))
    while (content := _message(link)) is not None:
        frame, counts = arm_wire.read_question(content)
        link.sendall(arm_wire.framed(arm_wire.answer(results(loaded, frame, counts))))
    return 0


def _message(link: socket.socket) -> bytes | None:
    prefix = _exactly(link, arm_wire.PREFIX)
    return None if prefix is None else _exactly(link, arm_wire.size(prefix))


def _exactly(link: socket.socket, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        part = link.recv(count - len(data))
        if not part:
            return None
        data += part
    return bytes(data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
