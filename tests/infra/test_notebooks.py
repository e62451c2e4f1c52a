"""What JupyterLab is told: everything of ours in our folders, nothing secret in what others may read."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stackyard_infra.manifests import notebooks

BESIDE = Path("/checkout/.stackyard/lab stack's/leases/lab")


class Told:
    """Jupyter's `c`: takes whatever is set."""

    def __init__(self) -> None:
        self.found: dict[str, SimpleNamespace] = {}

    def __getattr__(self, name: str) -> SimpleNamespace:
        return self.found.setdefault(name, SimpleNamespace())


def process(beside: Path = BESIDE) -> dict[str, Any]:
    return notebooks.process(
        "lease-lab-notebook", beside=beside, scratch=Path("/tmp/sy-0-id/n1234"), python="/tmp/sy-0-id/venv/bin/python",
        settings="/etc/jupyter.py", port=8765, environment={"RAY_ADDRESS": "127.0.0.2:1"},
    )  # fmt: skip


def test_its_settings_run_and_open_it_on_loopback_alone_behind_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", "/usr/bin")
    beside = tmp_path / 'lab\'s "folder"'
    beside.mkdir()
    (beside / "notebook-token").write_text("s3cret\n")
    made, told = process(beside), Told()
    exec(made["files"]["jupyter.py"], {"c": told})
    server = told.ServerApp
    assert (server.ip, server.port, server.port_retries) == ("127.0.0.1", 8765, 0)
    assert server.root_dir == str(beside / "workspace")
    assert told.IdentityProvider.token == "s3cret"
    assert os.environ["PATH"].split(os.pathsep) == ["/tmp/sy-0-id/venv/bin", "/usr/bin"]
    assert "s3cret" not in str(made)


def test_what_it_keeps_lies_beside_the_workspace_and_what_holds_a_token_does_not():
    made = process()
    assert made["environment"]["RAY_ADDRESS"] == "127.0.0.2:1"
    kept = {name: Path(where) for name, where in made["environment"].items() if "/" in where}
    scratch = kept.pop("JUPYTER_RUNTIME_DIR")
    assert str(scratch) == made["scratch"]
    assert all(where.is_relative_to(BESIDE / notebooks.KEPT) for where in kept.values())
    assert {"JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR", "HISTFILE"} <= kept.keys()
    assert not scratch.is_relative_to(BESIDE)
