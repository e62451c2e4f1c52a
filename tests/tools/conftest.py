"""A checkout of the tests' own: the tools' paths moved to a folder whose name has a space and is long."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine import commands, engine, places

REAL = places.CHECKOUT


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project that the tools take for theirs, under a path of more than 100 characters with odd ones in it."""
    root = tmp_path / ("a checkout with ümlauts and 100%25 of " + "x" * 80)
    for folder in (root / "stacks", root / "infra"):
        folder.mkdir(parents=True)
    (root / "stacks" / "local.yaml").write_text("project: ../examples\ntarget: local\n")
    (root / "stacks" / "dev.yaml").write_text("project: ../examples\ntarget: kubernetes # a cluster\n")
    (root / "tools").symlink_to(REAL / "tools")
    (root / ".venv").symlink_to(REAL / ".venv")
    names = {
        "CHECKOUT": ".",
        "VENV": ".venv",
        "STATE": ".stackyard",
        "STACKS": "stacks",
        "PROVIDER": "infra/stackyard_infra/provider",
    }
    for name, below in names.items():
        monkeypatch.setattr(places, name, root / below)
    monkeypatch.setattr(commands, "_RECORD", root / ".stackyard" / "machine.json")
    return root


@pytest.fixture
def standing_engine(tmp_path: Path) -> engine.Engine:
    """An engine that is only named, for what does not start it."""
    pulumi, host = tmp_path / "engine" / "pulumi", tmp_path / "engine" / "pulumi-language-python"
    pulumi.parent.mkdir()
    for file in (pulumi, host):
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)
    return engine.Engine(str(pulumi), str(host), "made up")
