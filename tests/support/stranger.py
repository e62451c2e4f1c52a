"""Somebody's own Ray on this machine: another port, another folder, no token. Nothing of ours may touch it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from journey import port_is_free, until


@dataclass
class Stranger:
    """A head, and the processes that it consists of."""

    head: psutil.Process
    family: list[psutil.Process]
    port: int

    def answers(self) -> bool:
        """Whether it still runs a task, on the processes that it had at first."""
        program = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False)\n"
        program += "print(ray.get(ray.remote(lambda: 6 * 7).remote()))"
        command = [sys.executable, "-c", program, f"127.0.0.1:{self.port}"]
        try:
            done = subprocess.run(command, env=_plain_environment(), capture_output=True, text=True, timeout=60)
        except subprocess.TimeoutExpired:
            return False
        return "42" in done.stdout.split() and all(process.is_running() for process in self.family)


@contextlib.contextmanager
def strangers_ray() -> Iterator[Stranger]:
    """It runs, and has run a task; at the end it is gone."""
    folder = tempfile.mkdtemp(prefix="strange-", dir="/tmp")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}"]
    command += [f"--temp-dir={folder}", "--num-cpus=1", "--include-dashboard=false", "--node-ip-address=127.0.0.1"]
    with Path(folder, "start.log").open("wb") as log:
        head = psutil.Popen(command, env=_plain_environment(), stdout=log, stderr=log, start_new_session=True)
    try:
        until(lambda: not port_is_free(port), "the stranger's Ray is up")
        made = Stranger(head, [], port)
        until(made.answers, "the stranger's Ray runs a task")
        core = ("gcs_server", "raylet")
        made.family = [process for process in psutil.process_iter() if _name(process) in core and _in(process, folder)]
        assert len(made.family) == 2
        yield made
    finally:
        theirs = [head, *(process for process in psutil.process_iter() if _in(process, folder))]
        for process in theirs:
            if process.is_running():
                process.kill()
        psutil.wait_procs(theirs, timeout=10)
        shutil.rmtree(folder, ignore_errors=True)


def _plain_environment() -> dict[str, str]:
    ours = ("PULUMI_", "STACKYARD_", "RAY_", "MLFLOW_")
    return {n: v for n, v in os.environ.items() if not n.startswith(ours)} | {"RAY_USAGE_STATS_ENABLED": "0"}


def _name(process: psutil.Process) -> str:
    try:
        return Path(process.cmdline()[0]).name
    except (psutil.Error, IndexError):
        return ""


def _in(process: psutil.Process, folder: str) -> bool:
    try:
        return any(folder in word for word in process.cmdline())
    except psutil.Error:
        return False
