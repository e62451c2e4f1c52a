"""The child's end of the worker's pipe: questions in, answers out, and nothing that user code prints between them."""

from __future__ import annotations

import ctypes
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from stackyard.control.checks import finite


def serve(answer: Callable[[str, dict[str, Any]], Any], read: int, write: int) -> None:
    """Answer the lines of `read` on `write`, until it ends. What `answer` raises is an answer."""
    with os.fdopen(read, "rb") as questions, os.fdopen(write, "wb") as answers:
        for line in questions:
            asked = json.loads(line)
            try:
                found = finite(answer(asked["kind"], asked["arguments"]))
                text = json.dumps({"ticket": asked["ticket"], "result": found}, allow_nan=False)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - user code may raise anything
                told = (str(error).strip().splitlines() or ["(no message)"])[0][:500]
                text = json.dumps({"ticket": asked["ticket"], "error": f"{type(error).__name__}: {told}"})
            answers.write(text.encode() + b"\n")
            answers.flush()


def private_pipes() -> tuple[int, int]:
    """The parent's pipes under other numbers; 0 is empty and 1 is the log now, so no print breaks an answer."""
    read, write = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what user code printed last is what explains its death
    return read, write


def end_with_parent() -> None:
    """Die with the parent's thread that started this process, also while user code hangs."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of <sys/prctl.h>
