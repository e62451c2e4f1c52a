"""A leased cluster for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lent import Lent, lent


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Lent]:
    made = lent(tmp_path)
    yield made
    made.clear()
