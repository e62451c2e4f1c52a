"""Much and large: memory does not grow with the workspace, and everything comes back."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from leased import Lab

MOST = 400 << 10
"""KiB of memory at the peak; a third of it are libraries and two packs."""


def many(workspace: Path) -> None:
    for folder in range(100):
        (workspace / f"d{folder}").mkdir()
        for number in range(1000):
            (workspace / f"d{folder}" / f"f{number}").write_bytes(b"%d %d" % (folder, number))


def large(workspace: Path) -> None:
    rng = random.Random(1)
    with (workspace / "large").open("wb") as file:
        for place in range(0, 5 << 30, 160 << 20):  # holes between, so that the test's own disk lasts
            file.seek(place)
            file.write(rng.randbytes(2_000_003))
        file.truncate(5 << 30)


def digest(folder: Path) -> str:
    """Of all names and contents."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        whole.update(os.fsencode(path.relative_to(folder)))
        if path.is_file():
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


@pytest.mark.slow
@pytest.mark.lifecycle
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("make", [many, large], ids=["100000-small-files", "5-gigabytes"])
def test_memory_is_bounded_and_everything_comes_back(lab: Lab, make: Callable[[Path], None]) -> None:
    """Slow: real sizes. Shows that neither the number nor the size of files decides how much memory is needed."""
    make(lab.workspace)
    settings = lab.base / "settings.json"
    settings.write_text(lab.settings.model_dump_json())
    for verb in (["save"], ["save"], ["verify"], ["restore", "latest", str(lab.base / "back")]):
        command = [sys.executable, "-m", "stackyard.evacuation", verb[0], str(settings), *verb[1:]]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        assert used.ru_maxrss < MOST
    assert digest(lab.base / "back") == digest(lab.workspace)
