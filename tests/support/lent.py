"""A leased cluster's folder as infra leaves it, with processes that are ended and started by small scripts."""

from __future__ import annotations

import datetime as dt
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leased import TAG, picture
from stackyard.evacuation.settings import SaverSettings, read
from stackyard.store.documents import public_text
from stackyard.store.keys import ensure_signing_key

TOGETHER = """
import json, os, pathlib, signal, subprocess, sys, time
verb, folder, tag, value = sys.argv[1:5]
folder = pathlib.Path(folder)
with (folder / "acts").open("a") as file:
    file.write(verb + "\\n")
if (folder / "acts-fail").exists():
    sys.exit(1)
def found():
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and f"{tag}={value}".encode() in open(f"/proc/{name}/environ", "rb").read().split(b"\\0"):
                if open(f"/proc/{name}/stat").read().rpartition(")")[2].split()[0] not in "ZX":
                    yield int(name)
        except OSError:
            pass
if verb == "suspend":
    while pids := list(found()):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        time.sleep(0.01)
elif not (folder / "suspended.json").exists() and not list(found()):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], cwd=folder / "workspace",
                     env={**os.environ, tag: value}, start_new_session=True,
                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
"""
"""What `suspend` and `resume` of lease.json run."""
WRITES = (
    "import itertools, time\n"
    "for n in itertools.count():\n"
    " f = open('log', 'a'); f.write(f'{n}\\n'); f.close(); print(n, flush=True); time.sleep(0.05)"
)
SLEEPS = "import time; print(0, flush=True); time.sleep(600)"


@dataclass
class Lent:
    """One leased cluster."""

    folder: Path
    store: Path
    tag: str
    processes: list[subprocess.Popen[str]] = field(default_factory=list[subprocess.Popen[str]])

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    @property
    def settings(self) -> SaverSettings:
        return read(self.folder / "evacuation.json")

    def read(self, name: str) -> Any:
        place = self.folder / name
        return json.loads(place.read_text()) if place.exists() else None

    def write(self, name: str, content: Any) -> None:
        (self.folder / name).write_text(json.dumps(content))

    def lease(self, **terms: Any) -> None:
        """Change the lease's terms; `every`, `budget`, `owner` ... are the file's own."""
        told = self.read("lease.json")
        own = {name: terms.pop(name) for name in list(terms) if name in told}
        self.write("lease.json", {**told, **own, "lease": {**told["lease"], **terms}})

    def opened(self, ago: float) -> None:
        """Let it have been opened so many seconds ago."""
        at = (dt.datetime.now(dt.UTC) - dt.timedelta(seconds=ago)).isoformat()
        self.write("instance.json", {**self.read("instance.json"), "opened": at})
        line = {"at": at, "what": "opened", "generation": 1, "workers": 2, "cpus": 3, "gpus": 0, "hourly_price": 0.5}
        (self.folder / "usage.jsonl").write_text(json.dumps(line) + "\n")

    def start(self, code: str = SLEEPS, *, tagged: bool = True, cwd: Path | None = None) -> subprocess.Popen[str]:
        """One of its processes."""
        name, _, value = self.tag.partition("=")
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=cwd or self.workspace,
            env={**os.environ, **({name: value} if tagged else {})},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        self.processes.append(process)
        return process

    def running(self) -> list[int]:
        """Processes that carry the tag."""
        found = []
        for name in os.listdir("/proc"):
            try:
                if name.isdigit() and self.tag.encode() in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    found += [int(name)] if state(int(name)) not in ("Z", "X", "") else []
            except OSError:
                continue
        return found

    def command(
        self, verb: str, *arguments: str, environment: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """A verb as a process: its exit code, and what it told."""
        done = subprocess.run(
            [sys.executable, "-m", "stackyard.leasing", verb, str(self.folder), *arguments, "--json"],
            capture_output=True,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        assert "Traceback" not in done.stderr, done.stderr
        lines = done.stdout.splitlines()
        return done.returncode, json.loads(lines[-1]) if lines else {}

    def restored(self, target: Path) -> dict[bytes, Any]:
        """What comes back from the store."""
        command = [
            sys.executable,
            "-m",
            "stackyard.evacuation",
            "restore",
            str(self.folder / "evacuation.json"),
            "latest",
        ]
        subprocess.run([*command, str(target)], check=True, capture_output=True)
        return picture(target)

    def acts(self) -> list[str]:
        """What was run of `suspend` and `resume`."""
        place = self.folder / "acts"
        return place.read_text().split() if place.exists() else []

    def clear(self) -> None:
        """End what runs."""
        for pid in self.running():
            os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.kill()
            process.wait()


def state(pid: int) -> str:
    """The kernel's letter for a process; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def gone(process: subprocess.Popen[str]) -> bool:
    """Whether it ended."""
    until = time.monotonic() + 5
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    return process.poll() is not None


def lent(tmp_path: Path, cluster: str = "bench") -> Lent:
    """An open cluster with a little work in it, lent for 30 days and opened an hour ago; nothing runs."""
    folder, stack_id = tmp_path / "leases" / cluster, f"s{secrets.token_hex(4)}"
    (folder / "workspace").mkdir(parents=True)
    (folder / "workspace" / "notes").write_bytes(os.urandom(2000))
    key, script = ensure_signing_key(tmp_path / "receipt.key"), tmp_path / "together.py"
    script.write_text(TOGETHER)
    tag = f"{TAG}={stack_id}/{cluster}"
    made = Lent(folder, tmp_path / "store", tag)
    common = {"stack": "lab", "stack_id": stack_id, "cluster": cluster}
    made.write("instance.json", {"instance": "i-1", "generation": 1, "sealed": False, "opened": ""})
    settings = {"instance": "i-1", "generation": 1, "workspace": str(made.workspace), "store": str(made.store)}
    settings |= {"receipt_key": str(tmp_path / "receipt.key"), "trusted_keys": [public_text(key.public_key())]}
    made.write("evacuation.json", {**common, **settings, "state": str(folder / "saver"), "processes_tag": tag})
    act = [sys.executable, str(script)]
    terms = {"end": None, "ttl": 2_592_000.0, "idle": None, "grace": 86_400.0, "hours": None, "extend": None}
    told = {"every": 300.0, "workers": 2, "cpus": 3, "gpus": 0, "owner": "ada", "tell": ["ADA_MAIL"], "tag": tag}
    told |= {"budget": {"money": None, "hourly_price": 0.5}, "dashboard": "http://127.0.0.1:9", "notebook": None}
    told |= {"lease": {**terms, "warn": [604_800.0, 259_200.0, 86_400.0, 3_600.0]}, "clock": None}
    for verb in ("suspend", "resume"):
        told[verb] = [*act, verb, str(folder), *tag.partition("=")[::2]]
    made.write("lease.json", {**common, **told})
    made.opened(3600.0)
    return made
