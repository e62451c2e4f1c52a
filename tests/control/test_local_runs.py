"""Runs as processes: tagged as this stack's own, found again by that, and told everything by a private file."""

import json
import os
import signal
import stat
import time
from pathlib import Path

from stackyard.control.local import LocalRuns
from stackyard.training import keeper


def test_a_run_is_found_again_by_whoever_comes_next_and_by_no_other_stack(tmp_path: Path) -> None:
    first = LocalRuns(tmp_path / "a", tmp_path / "logs", {})
    pid = first.start("m-0001", {"run_id": "m-0001"})  # not a whole intent: it would end by itself
    try:
        deadline = time.monotonic() + 10
        while keeper.RUN_TAG.encode() not in Path(f"/proc/{pid}/environ").read_bytes():  # empty while it is exec'ed
            assert time.monotonic() < deadline
        os.kill(pid, signal.SIGSTOP)  # it must not end before it is looked at
        assert LocalRuns(tmp_path / "a", tmp_path / "logs", {}).alive("m-0001", pid)
        assert not LocalRuns(tmp_path / "b", tmp_path / "logs", {}).alive("m-0001", pid)
    finally:
        os.kill(pid, signal.SIGKILL)
    intent = tmp_path / "a" / "runs" / "m-0001.json"
    assert stat.S_IMODE(intent.stat().st_mode) == 0o600
    assert json.loads(intent.read_bytes())["runtime"] == str(tmp_path / "a" / "t")
    first.stop(5)
    assert not first.alive("m-0001", pid)
    assert keeper.run_mark("m-0001", tmp_path / "a" / "t") != keeper.run_mark("m-0001", tmp_path / "b" / "t")
