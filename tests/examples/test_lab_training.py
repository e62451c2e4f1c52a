"""The example's training on a leased cluster: killed where it may be, it ends as one that never was.

On a few days of departures, without Ray: the same function runs there as a task.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KILLED = """
import os, runpy, signal, sys
from stackyard.training import resumable
at, fatal = resumable.Resumable.at, int(sys.argv.pop(1))
def counted(self, step):
    if step == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    at(self, step)
resumable.Resumable.at = counted
runpy.run_path(sys.argv.pop(1), run_name="__main__", init_globals=None)
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """The project and some of its data, as a leased cluster's first opening gives them out."""
    import datetime as dt

    sys.path.insert(0, str(ROOT / "examples/flights"))
    try:
        import flights_data  # pyright: ignore[reportMissingImports]
    finally:
        sys.path.pop(0)
    project = tmp_path / "flights"
    shutil.copytree(ROOT / "examples/flights", project)
    (tmp_path / "data").mkdir()
    start = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
    flights_data.read(start, start + dt.timedelta(days=6)).write_parquet(tmp_path / "data/flights.parquet")
    return tmp_path


def _trained(workspace: Path, folder: str, fatal: int = 0) -> subprocess.CompletedProcess[str]:
    script = str(workspace / "flights/lab_training.py")
    command = [sys.executable, "-c", KILLED, str(fatal), script, "--here", "--epochs", "30", "--folder", folder]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    return subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_killed_and_begun_again_it_ends_with_the_digest_of_one_never_interrupted(workspace: Path):
    """Slow: five processes that read data. The README's example is the one that a person would copy."""
    whole = _trained(workspace, "whole")
    assert whole.returncode == 0, whole.stderr
    for fatal in (150, 210, 290):
        assert _trained(workspace, "killed", fatal).returncode == -signal.SIGKILL
    last = _trained(workspace, "killed")
    assert "goes on after step 200" in last.stdout, last.stdout + last.stderr
    found, want = (json.loads(done.stdout.splitlines()[-1]) for done in (last, whole))
    assert found == want
    assert want["loss"] < 0.6 and want["steps"] > 290
