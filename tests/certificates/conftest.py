"""A stack that was taken away, of its own for each test; what a test leaves of it goes afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from departed import Departed, departed


@pytest.fixture
def gone(tmp_path: Path) -> Iterator[Departed]:
    made = departed(tmp_path)
    yield made
    shutil.rmtree(made.runtime, ignore_errors=True)
