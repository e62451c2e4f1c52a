"""Ends what an earlier life of this process left behind.

Ray's processes outlive a killed parent, and a tree of parents is lost with its root. What stays is the environment:
everything started here carries the stack's id and the process's name, so that is what is looked for.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable

import psutil

TAGS = ("STACKYARD_STACK_ID", "STACKYARD_PROCESS")


def tagged(stack_id: str, process: str) -> list[psutil.Process]:
    """Processes of this user whose environment carries both tags; never this one or one of its ancestors."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for candidate in psutil.process_iter():
        try:
            environment = candidate.environ() if candidate.pid not in own else {}
        except (psutil.Error, OSError):
            continue
        if (environment.get(TAGS[0]), environment.get(TAGS[1])) == (stack_id, process):
            found.append(candidate)
    return found


def end(processes: Iterable[psutil.Process], *, patience: float = 5.0) -> list[psutil.Process]:
    """Ask `processes` to end, then make them; returns those that are still there after another `patience` seconds."""
    alive = list(processes)
    for name in (signal.SIGTERM, signal.SIGKILL):
        for process in alive:
            try:
                process.send_signal(name)
            except psutil.Error:
                continue
        _, alive = psutil.wait_procs(alive, timeout=patience)
        if not alive:
            break
    return alive


def sweep(stack_id: str, process: str, *, patience: float = 5.0) -> int:
    """End everything that carries the tags, until a look around finds nothing; returns how many were ended.

    Raises RuntimeError when something survives SIGKILL.
    """
    ended, until = 0, time.monotonic() + 4 * patience
    while found := tagged(stack_id, process):
        if time.monotonic() > until:
            raise RuntimeError(f"cannot end {', '.join(str(p.pid) for p in found)}")
        ended += len(found)
        end(found, patience=patience)
        patience = 1.0
    return ended
