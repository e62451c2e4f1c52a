"""The last line of a run is what its tests wrote down, from whichever worker; a figure that does not hold fails it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GOOD = "tally.kill('save', 'pack-stored', then='save', killed=True)"


@pytest.mark.parametrize(
    ("body", "options", "status", "key", "value"),
    [
        pytest.param(GOOD, ["-n", "2"], 0, "converged", 2, id="all-converged"),
        pytest.param("tally.lost.append(('a file', 7))", [], 1, "bytes_lost", 14, id="bytes-lost"),
        pytest.param("tally.leftovers.append('process 7')", [], 1, "leaks", 2, id="something-left-over"),
        pytest.param(
            "tally.refusals.append(Refusal('full', True, False))", [], 1, "refusals_correct", False, id="not-refused"
        ),
    ],
)
def test_a_run_ends_with_its_figures_and_fails_with_one_that_does_not_hold(
    tmp_path: Path, body: str, options: list[str], status: int, key: str, value: object
) -> None:
    shutil.copy(Path(__file__).parents[1] / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").touch()
    for name in "ab":
        (tmp_path / f"test_{name}.py").write_text(f"from tally import Refusal\n\ndef test_it(tally):\n    {body}\n")
    command = [sys.executable, "-m", "pytest", "-q", *options, "-p", "no:cacheprovider", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == status, done.stdout
    assert json.loads(done.stdout.splitlines()[-1])[key] == value
