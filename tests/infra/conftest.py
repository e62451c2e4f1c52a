"""A site of its own for each test, gone afterwards with all that ran in it; and the inputs of an idle process."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stackyard_infra.provider import tagged
from stackyard_infra.provider.site import Site, remove_folder

ProcessInputs = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Places under a ceiling: of each test its own, since a test ends its clusters without giving them back."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))
    return tmp_path / "state-home"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[dict[str, str]]:
    stack_id = secrets.token_hex(4)
    state = tmp_path / "a stack's state; 100% #1"
    state.mkdir()
    runtime = f"/tmp/sy-{os.getuid()}-{stack_id}"
    made = {"stack": "test", "stack_id": stack_id, "state": str(state), "runtime": runtime}
    yield made
    tagged.end(stack_id, grace=2)
    remove_folder(Site.of({"site": made}).runtime)


@pytest.fixture
def process(site: dict[str, str]) -> ProcessInputs:
    """`process(name, **other)`: inputs of a Process that does nothing for a long time."""

    def inputs(name: str, **other: Any) -> dict[str, Any]:
        plain = {
            "site": site,
            "name": name,
            "command": ["sleep", "1000"],
            "environment": {},
            "folder": site["state"],
            "files": {},
            "secrets": {},
            "reload": "restart",
            "health": {"timeout": 10},
            "stop_timeout": 5,
            "version": "1",
        }
        return plain | other

    return inputs
