"""A run that skips for a reason that no list allows fails, although every test in it passed or skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param("assert True", 0, id="passes"),
        pytest.param("pytest.skip('zsh is not installed')", 0, id="skips-for-an-allowed-reason"),
        pytest.param("pytest.skip('no idea')", 1, id="skips-for-another"),
        pytest.param("pytest.importorskip('no_such_module')", 1, id="skips-for-a-missing-module"),
        pytest.param("pytest.xfail('known')", 0, id="fails-as-expected"),
    ],
)
def test_a_run_fails_on_a_skip_that_no_list_allows(tmp_path: Path, body: str, status: int) -> None:
    shutil.copy(Path(__file__).parents[1] / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "test_it.py").write_text(f"import pytest\n\ndef test_it():\n    {body}\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == status, done.stdout
    assert ("a skip that no list allows" in done.stdout) is bool(status)
