"""A small stack on the real engine and the real provider: two web servers under a supervisor, seconds a command."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from machine import engine
from stackyard_infra.provider import tagged

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import pathlib
import pulumi
from stackyard.spec import load
from stackyard_infra.components.store import ArtifactStore
from stackyard_infra.components.supervision import Supervision

spec = load(pathlib.Path(__file__).parents[1] / "stacks" / "local.yaml")
supervision = Supervision("supervision", spec)
store = ArtifactStore("store", spec, supervision=supervision)
for name in ("metrics", "mlflow"):
    def web(ports, addresses, keys, name=name):
        port = str(ports[name])
        command = [supervision.places.python, "-m", "http.server", port, "--bind", "127.0.0.1", "-d", "."]
        files = {"note": pathlib.Path(f"{name}.txt").read_text()}
        health = {"http": f"http://127.0.0.1:{port}/", "timeout": 30}
        return {"command": command, "environment": {}, "files": files, "health": health}
    supervision.run(name, supervision.lowered(web), parent=supervision, needs=[store.folder], version="1",
                    secrets={"TOKEN": pulumi.Config().require_secret("TOKEN")} if name == "mlflow" else {})
"""
PROJECT = """\
name: toy
task: {type: binary, label: late}
data:
  source: {python: "rows:rows"}
  time: at
  window: {start: 2024-01-01, end: 2024-02-01}
  columns:
    at: {type: datetime, known: before}
    distance: {type: float, known: before}
    late: {type: boolean, known: after}
features: {function: "rows:features"}
"""


class Stack:
    """A checkout of its own with a small program, and the engine to run it with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        chosen = engine.choose()
        path = os.pathsep.join([*chosen.folders(), os.environ["PATH"]])
        self.environment = {
            **os.environ,
            "PATH": path,
            "PULUMI_HOME": str(folder / ".stackyard/pulumi"),
            "PULUMI_BACKEND_URL": f"file://{folder.parent}/backend",
            "PULUMI_CONFIG_PASSPHRASE": "canary-passphrase",
            "PULUMI_SKIP_UPDATE_CHECK": "1",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "1",
            "PULUMI_DISABLE_REGISTRY_RESOLVE": "1",
        }
        self.stack_id = hashlib.sha256(f"{folder.resolve()}\nlocal".encode()).hexdigest()[:8]
        self.runtime = Path(f"/tmp/sy-{os.getuid()}-{self.stack_id}")

    def command(self, *arguments: str) -> list[str]:
        return ["pulumi", *arguments, "--stack", "local", "--non-interactive"]

    def pulumi(self, *arguments: str) -> str:
        """What the engine says. It must succeed."""
        command = self.command(*arguments)
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def failing(self, *arguments: str) -> str:
        """What the engine says of a command that must fail."""
        done = subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode != 0, done.stdout
        return done.stdout + done.stderr

    def up(self) -> str:
        return self.pulumi("up", "--yes", "--skip-preview")

    def killed_up(self, moment: Callable[[], object]) -> None:
        """`pulumi up`, killed -9 at that moment; then its lock is cleared as `make` does."""
        process = subprocess.Popen(
            self.command("up", "--yes", "--skip-preview"),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: moment() or process.poll() is not None)
        assert process.poll() is None, "it ended before it could be killed"
        process.kill()
        process.wait()
        self.pulumi("cancel", "--yes")

    def running(self, name: str | None = None) -> set[int]:
        return {process.pid for process in tagged.find(self.stack_id, name)}

    def ports(self) -> set[int]:
        return tagged.listening(tagged.find(self.stack_id))


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def toy_checkout(folder: Path) -> Path:
    """Make `folder` a checkout with the small program; its tools, provider and .venv are this checkout's."""
    for below in ("infra", "stacks", "examples/toy"):
        (folder / below).mkdir(parents=True)
    shutil.copy(ROOT / "Pulumi.yaml", folder)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    (folder / "tools").symlink_to(ROOT / "tools")
    (folder / "infra/stackyard_infra").symlink_to(ROOT / "infra/stackyard_infra")
    (folder / "infra/__main__.py").write_text(PROGRAM)
    for name in ("metrics", "mlflow"):
        (folder / f"infra/{name}.txt").write_text("first")
    (folder / "examples/toy/project.yaml").write_text(PROJECT)
    (folder / "examples/toy/rows.py").write_text("def rows(start, end): ...\ndef features(frame): ...\n")
    (folder / "stacks/local.yaml").write_text("project: ../examples/toy\ntarget: local\n")
    return folder
