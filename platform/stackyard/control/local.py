"""Runs as child processes of this machine: started, found again by tag, and ended.

A run outlives the controller that started it only by accident; whoever comes next finds it by its tag in the
process table, and its result in the store, never by what an earlier controller remembered.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from stackyard.store.documents import canonical
from stackyard.training import keeper


class LocalRuns:
    """Starts `python -m stackyard.training.run` and knows which runs live."""

    def __init__(self, runtime: Path, log_folder: Path, secrets: Mapping[str, str]) -> None:
        self._folder, self._runtime = runtime / "runs", runtime / "t"
        self._logs = log_folder / "runs"
        self._secrets = dict(secrets)
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, run_id: str, intent: dict[str, object]) -> int:
        """Start the process of `run_id`; returns its pid. The intent goes by file, never by argument."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._folder / f"{run_id}.json"
        path.write_bytes(canonical({**intent, "runtime": str(self._runtime)}))
        path.chmod(0o600)
        with self.log(run_id).open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "stackyard.training.run", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._secrets, keeper.RUN_TAG: keeper.run_mark(run_id, self._runtime)},
                start_new_session=True,
            )
        self._children[run_id] = child
        return child.pid

    def log(self, run_id: str) -> Path:
        """Where the output of `run_id` is."""
        return self._logs / f"{run_id}.log"

    def alive(self, run_id: str, pid: int | None) -> bool:
        """Whether the process `pid` lives and still is that run (pids are used again)."""
        if (child := self._children.get(run_id)) is not None and child.pid == pid:
            return child.poll() is None
        if pid is None:
            return False
        try:
            process = psutil.Process(pid)
            mark = keeper.run_mark(run_id, self._runtime)
            return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(keeper.RUN_TAG) == mark
        except psutil.Error:
            return False

    def stop(self, seconds: float) -> list[str]:
        """Ask every child to end, and make it so after `seconds`; returns the runs that this interrupted."""
        living = {run_id: child for run_id, child in self._children.items() if child.poll() is None}
        for child in living.values():
            child.terminate()
        for child in living.values():
            try:
                child.wait(seconds)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        return list(living)
