"""A leased cluster's workspace for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from leased import Lab, leased


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return leased(tmp_path)
