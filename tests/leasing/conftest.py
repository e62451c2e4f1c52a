"""A leased cluster for each test; the evacuation costs a fork and no start of an interpreter, but in slow tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import forking
from lent import Lent, lent
from stackyard.leasing.acting import Actor


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lent]:
    def quick(self: Actor, verb: str) -> dict[str, Any]:
        outcome = forking.verbs().run(self.settings, verb)
        return outcome.told if outcome.code == 0 else {**outcome.told, "ok": False}

    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr(Actor, "_evacuation", quick)
    made = lent(tmp_path)
    yield made
    made.clear()
