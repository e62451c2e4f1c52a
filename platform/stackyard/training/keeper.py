"""Whatever happens to a run, nothing of it stays: no process, no temp folder.

The keeper is a small process between a run and its work. It adopts every orphan below it (child subreaper), so
Ray's daemons cannot slip away, and it watches a pipe from the run: when that closes, for any reason, kill -9
included, it kills all below it, removes the folder and ends. Should the keeper itself be killed, `sweep` finds
what is left by tag, ancestry and open files. Standard library only: it runs as a bare script and costs 10 MB.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time

RUN_TAG, ATTEMPT_TAG = "STACKYARD_RUN", "STACKYARD_ATTEMPT"
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


def run_mark(run_id: str, runtime: str | os.PathLike[str]) -> str:
    """The value of RUN_TAG: two checkouts of one commit give their first runs the same id, but never one folder."""
    return f"{run_id}@{os.fspath(runtime)}"


def sweep(tag: str, value: str, folder: str, *, seconds: float = 10.0) -> list[int]:
    """Kill this user's processes tagged `tag=value` or holding files under `folder`, and all below them.

    The caller and its ancestors are spared. Returns the pids that were killed.
    """
    spared, killed, end = _ancestors(os.getpid()), set[int](), time.monotonic() + seconds
    while found := _marked(f"{tag}={value}".encode(), folder) - spared:
        for pid in found:
            _kill(pid)
        killed |= found
        if time.monotonic() > end:
            break
        time.sleep(0.02)
    return sorted(killed)


def clear(folder: str) -> None:
    """Remove `folder`, and its parent once that is empty."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(folder))


def parents() -> dict[int, int]:
    """Parent of every living process (zombies left out)."""
    found = {}
    for pid in _pids():
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue
        if state != b"Z":
            found[pid] = int(parent)
    return found


def descendants(of: int) -> set[int]:
    """Every process below `of`."""
    tree, found, queue = parents(), set[int](), [of]
    while queue:
        above = queue.pop()
        for pid, parent in tree.items():
            if parent == above and pid not in found:
                found.add(pid)
                queue.append(pid)
    return found


def main(argv: list[str]) -> int:
    """`keeper.py FOLDER COMMAND...`: run COMMAND, and be the end of it. Returns its exit status."""
    folder, command = argv[0], argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the pipe is the only way to ask, so that nobody races it
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_parent)  # noqa: PLW1509  this process has one thread
    try:
        status = _watch(child)
    finally:
        _end_all()
        clear(folder)
    return status if status >= 0 else 128 - status


def _watch(child: subprocess.Popen[bytes]) -> int:
    """Wait until the child ends or the run's end of the pipe closes; orphans are reaped on the way."""
    while (status := child.poll()) is None:
        if select.select([sys.stdin], [], [], 0.1)[0] and not os.read(sys.stdin.fileno(), 1):
            return -signal.SIGKILL
        _reap(spare=child.pid)
    return status


def _end_all() -> None:
    while below := descendants(os.getpid()):
        for pid in below:
            _kill(pid)
        time.sleep(0.02)
        _reap(spare=0)


def _reap(spare: int) -> None:
    for pid, parent in _zombies():
        if parent == os.getpid() and pid != spare:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue


def _zombies() -> list[tuple[int, int]]:
    found = []
    for pid in _pids():
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue
        if state == b"Z":
            found.append((pid, int(parent)))
    return found


def _marked(tag: bytes, folder: str) -> set[int]:
    tree = parents()
    found = {pid for pid in tree if carries(pid, tag) or holds(pid, folder)}
    while more := {pid for pid, parent in tree.items() if parent in found} - found:
        found |= more
    return found


def carries(pid: int, tag: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return tag in file.read().split(b"\0")
    except OSError:
        return False


def holds(pid: int, folder: str) -> bool:
    """Ray's agents overwrite their environment with a title, but keep their logs open."""
    folder = folder.rstrip("/")
    try:
        names = [f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]
        for name in [f"/proc/{pid}/cwd", *names]:
            try:
                if f"{os.readlink(name)}/".startswith(f"{folder}/"):
                    return True
            except OSError:
                continue
    except OSError:
        return False
    return False


def _ancestors(pid: int) -> set[int]:
    tree, found = parents(), {pid}
    while (pid := tree.get(pid, 0)) > 0:
        found.add(pid)
    return found


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
