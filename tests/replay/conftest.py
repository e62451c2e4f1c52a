"""A town of each test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from town import Controller, Service, Town


@pytest.fixture
def town(tmp_path: Path) -> Town:
    """A checkout with a past."""
    return Town(tmp_path)


@pytest.fixture
def controller(town: Town) -> Iterator[Controller]:
    """The stack's controller."""
    made = Controller(town)
    yield made
    made.over.set()
    made.join()


@pytest.fixture
def service(town: Town, controller: Controller) -> Iterator[Service]:
    """The stack's service, with the controller looking on."""
    made = Service(town)
    town.up(made.port)
    yield made
    made.stop()
