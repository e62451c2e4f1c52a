"""A checkout of the tests' own, under a long path with a space in it, destroyed at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from journey import Checkout, copy_of_this_checkout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A copy of this checkout, nothing set up in it: its .venv is made by the first command, as on a fresh machine."""
    made = copy_of_this_checkout(tmp_path_factory.mktemp("e2e") / ("a checkout " + "x" * 80))
    yield made
    if (made.folder / ".stackyard").exists():
        made.run("pulumi", "destroy", "-s", "local", "--yes", "--skip-preview")
