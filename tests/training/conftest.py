"""A small project and real runs of it, for the tests of training."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from stackyard.spec import plain
from stackyard.spec.models import ProjectSpec
from stackyard.store import layout
from stackyard.store.objects import Store
from stackyard.training import intent as intents
from stackyard.training import keeper

PROJECT: dict[str, Any] = {
    "name": "deliveries",
    "task": {"type": "binary", "label": "late"},
    "data": {
        "source": {"python": "toy_data:read"},
        "time": "time",
        "window": {"start": "2030-01-01", "end": "2030-12-31"},
        "columns": {
            "time": {"type": "datetime", "known": "before"},
            "distance": {"type": "float", "known": "before", "minimum": 0, "maximum": 100},
            "rain": {"type": "float", "known": "before", "nullable": True},
            "carrier": {"type": "string", "known": "before", "categories": ["bike", "van", "train"]},
            "late": {"type": "boolean", "known": "after"},
        },
    },
    "features": {"function": "toy_features:build"},
    "training": {
        "rounds": 60,
        "checkpoint_every": 5,
        "parameters": {"max_depth": 3, "subsample": 0.8},
    },
}


class Runs:
    """Runs of the toy that share a store. Each has a loopback address and a temp folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, Store.open(folder / "store")
        self._addresses: dict[str, int] = {}

    def runtime(self, run_id: str) -> Path:
        """The run's own short folder: socket paths end at 107 bytes."""
        return Path(f"/tmp/sy-test-{os.getpid()}/{run_id}")

    def intent(self, run_id: str, spec: ProjectSpec, **fields: Any) -> Path:
        """The intent of a run, on disk; `fields` are more of it."""
        number = self._addresses.setdefault(run_id, 100 + len(self._addresses))
        path = self.folder / f"{run_id}.json"
        path.write_text(
            json.dumps(
                {
                    "run_id": run_id,
                    "project": plain.dump(spec),
                    "project_folder": str(Path(__file__).parent / "toy"),
                    "store": str(self.folder / "store"),
                    "cache": str(self.folder / "cache"),
                    "runtime": str(self.runtime(run_id)),
                    "node_address": f"127.0.0.{number}",
                    "facts": {"commit": "c0ffee", "dirty": False, "lock": "l" * 64, "plan": "p" * 64},
                    **fields,
                }
            )
        )
        return path

    def start(self, run_id: str, spec: ProjectSpec, **fields: Any) -> subprocess.Popen[str]:
        """Start a run as the controller does."""
        return subprocess.Popen(
            [sys.executable, "-m", "stackyard.training.run", str(self.intent(run_id, spec, **fields))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, keeper.RUN_TAG: keeper.run_mark(run_id, self.runtime(run_id))},
            start_new_session=True,
        )

    def result(self, run_id: str) -> dict[str, Any]:
        """What the run came to."""
        found = intents.result(self.store, run_id)
        assert found is not None, f"run {run_id} has no result"
        return found

    def checkpoints(self, run_id: str) -> list[str]:
        """Keys of the run's checkpoints."""
        return list(self.store.keys(layout.run(run_id, "checkpoints")))

    def left_behind(self, run_id: str) -> list[str]:
        """Processes and folders of the run that are still there."""
        runtime = self.runtime(run_id)
        processes = self._members(run_id)
        return [*(f"process {pid}" for pid in processes), *([str(runtime)] if runtime.exists() else [])]

    def listening(self, run_id: str) -> set[int]:
        """TCP ports that the run's processes listen on."""
        found = set()
        for pid in self._members(run_id):
            with contextlib.suppress(psutil.Error):
                entries = psutil.Process(pid).net_connections("tcp")
                found |= {entry.laddr.port for entry in entries if entry.status == psutil.CONN_LISTEN}
        return found

    def _members(self, run_id: str) -> list[int]:
        runtime = self.runtime(run_id)
        tag = f"{keeper.RUN_TAG}={keeper.run_mark(run_id, runtime)}".encode()
        return [pid for pid in keeper.parents() if keeper.carries(pid, tag) or keeper.holds(pid, str(runtime))]

    @staticmethod
    def project(**training: Any) -> ProjectSpec:
        """The toy's spec, with other fields of `training`."""
        return plain.load(ProjectSpec, {**PROJECT, "training": {**PROJECT["training"], **training}})

    @staticmethod
    def wait_for(found: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 120.0) -> Any:
        """What `found` gives as soon as it gives something; fails if the process ends first."""
        end = time.monotonic() + seconds
        while not (value := found()):
            assert process.poll() is None, f"it ended first:\n{process.stdout.read() if process.stdout else ''}"
            assert time.monotonic() < end, "it took too long"
            time.sleep(0.02)
        return value

    @staticmethod
    def kill_a_worker(process: subprocess.Popen[str]) -> None:
        """kill -9 one Ray Train worker below `process`."""
        workers = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if child.is_running() and "RayTrainWorker" in " ".join(child.cmdline()[:1])
        ]
        assert workers, "no worker is running"
        os.kill(workers[-1].pid, signal.SIGKILL)

    @staticmethod
    def wait_until_gone(left: Callable[[], list[str]], seconds: float = 15.0) -> None:
        """Wait until `left` is empty: a run that was killed is cleaned up by its keeper, a moment later."""
        end = time.monotonic() + seconds
        while found := left():
            assert time.monotonic() < end, found
            time.sleep(0.05)


@pytest.fixture
def toy_project() -> dict[str, Any]:
    """The toy's project.yaml, to be changed at will."""
    return copy.deepcopy(PROJECT)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Runs of the toy with a store of their own; their temp folders go with the module."""
    yield Runs(tmp_path_factory.mktemp("training"))
    shutil.rmtree(f"/tmp/sy-test-{os.getpid()}", ignore_errors=True)
