"""A leased cluster whose worker is killed and whose store goes away goes on; its work comes back in another stack.

Slow (two Ray clusters, one after the other, behind the real engine), and worth it: only here is a real Ray job of a
real training killed on a real node, and a receipt of a real destroy restored into what another `up` opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leased import picture
from stackyard_infra.provider import tagged
from toy import ROOT, Stack, toy_checkout

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]
PROGRAM = """
import pathlib
import pulumi
from stackyard.spec import load
from stackyard_infra.components.leases import Lease
from stackyard_infra.components.store import ArtifactStore
from stackyard_infra.components.supervision import Supervision

spec = load(pathlib.Path(__file__).parents[1] / "stacks" / f"{pulumi.get_stack()}.yaml")
supervision = Supervision("supervision", spec)
store = ArtifactStore("store", spec, supervision=supervision)
for name in spec.environment.clusters:
    Lease(name, spec, store=store, supervision=supervision)
"""
CLI = "from stackyard.cli import main; main()"
LENT = "clusters: {%s: {owner: ada, data: false, save: {every: 1h, encrypt: true}, rehearsal: {steps_lost: 40}}}\n"


class Named(Stack):
    """One of the stacks of a checkout."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder)
        self.name = name
        self.stack_id = hashlib.sha256(f"{folder.resolve()}\n{name}".encode()).hexdigest()[:8]
        self.runtime = Path(f"/tmp/sy-{os.getuid()}-{self.stack_id}")

    def command(self, *arguments: str) -> list[str]:
        return ["pulumi", *arguments, "--stack", self.name, "--non-interactive"]

    def pulumi(self, *arguments: str) -> str:
        command = self.command(*arguments)
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stackyard(self, *arguments: str) -> dict[str, Any]:
        command = [
            sys.executable,
            "-c",
            "from stackyard.cli import main; main()",
            *arguments,
            "-s",
            self.name,
            "--json",
        ]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.strip().splitlines()[-1])


def trained(stack: Named, cluster: str, epochs: int, *more: str) -> dict[str, Any]:
    """The flights' training in a terminal of the cluster, as a task of its Ray."""
    beside = stack.folder / ".stackyard" / stack.name / "leases" / cluster
    processes = json.loads((beside / "processes.json").read_text())
    head = next(each for each in processes if each["name"].endswith("-head"))
    environment = {**os.environ, **head["environment"], "RAY_AUTH_MODE": "token", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "flights/lab_training.py", "--epochs", str(epochs), *more]
    done = subprocess.run(command, cwd=beside / "workspace", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture
def stacks(tmp_path: Path) -> Iterator[tuple[Named, Named]]:
    (tmp_path / "backend").mkdir()
    folder = toy_checkout(tmp_path / "a checkout")
    (folder / "infra/__main__.py").write_text(PROGRAM)
    made = Named(folder, "local"), Named(folder, "other")
    for stack, cluster in zip(made, ("lab", "fresh"), strict=True):
        spec = f"project: ../examples/toy\ntarget: local\n{LENT % cluster}"
        (folder / f"stacks/{stack.name}.yaml").write_text(spec)
        stack.pulumi("stack", "init")
    yield made
    for stack in made:
        tagged.end(stack.stack_id, grace=0)
        shutil.rmtree(stack.runtime, ignore_errors=True)


def test_what_was_rehearsed_and_destroyed_comes_back_in_another_stack(stacks: tuple[Named, Named]):
    lab, other = stacks
    lab.up()
    beside = lab.folder / ".stackyard/local/leases/lab"
    (beside / "workspace/notes").mkdir()
    (beside / "workspace/notes/model.bin").write_bytes(os.urandom(100_000))
    (beside / "workspace/notes/model.bin").chmod(0o640)

    shutil.copytree(ROOT / "examples/flights", beside / "workspace/flights")
    whole = trained(lab, "lab", 3, "--here", "--folder", str(lab.folder / "whole"))

    outage = lab.stackyard("rehearse", "store-outage")
    assert (outage["held"], outage["measured"]["steps_lost"]) == (True, 0)
    assert outage["notes"]["save_while_away"] == "store_away"
    killed = lab.stackyard("rehearse", "preemption")
    assert killed["held"] and killed["notes"]["killed"] == "worker-0" and killed["measured"]["bytes_lost"] == 0
    assert sorted(os.listdir(beside / "workspace")) == ["flights", "notes"]
    ended = lab.stackyard("rehearse", "lease-end")
    assert ended["held"] and ended["measured"]["steps_lost"] == 0 and ended["notes"]["answered"]
    assert json.loads((beside / "rehearsals.json").read_text())["last"].keys() == {
        "store-outage", "preemption", "lease-end",
    }  # fmt: skip

    assert trained(lab, "lab", 2)["steps"] < whole["steps"]
    want = picture(beside / "workspace")
    lab.pulumi("destroy", "--yes", "--skip-preview")
    (receipt,) = (lab.folder / ".stackyard/local/store/receipts/lab").iterdir()
    assert not beside.exists()

    other.up()
    told = other.stackyard("restore", f"receipts/lab/{receipt.name}", "--to", "fresh")
    assert told["from"] == {"stack": "local", "cluster": "lab"} and told["losses"] == []
    assert picture(lab.folder / ".stackyard/other/leases/fresh/workspace") == want
    assert trained(other, "fresh", 3) == whole, "it went on where it was, and ends as one never interrupted"
    other.pulumi("destroy", "--yes", "--skip-preview")
