"""A leased cluster as a rehearsal sees it: its files, its Ray jobs, its processes, what of it is saved."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from stackyard.evacuation.settings import SaverSettings
from stackyard.store import trainings
from stackyard.store.trainings import Announced

_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_WAIT = 5.0
"""Seconds for an answer of Ray's dashboard."""


class Silent(Exception):
    """Ray's dashboard does not answer."""


@dataclass(frozen=True)
class Cluster:
    """The folder of a leased cluster, and what it says."""

    folder: Path
    settings: SaverSettings
    facts: dict[str, Any]
    """`lease.json`."""

    @property
    def workspace(self) -> Path:
        """Where people's work lies."""
        return self.settings.workspace

    @property
    def trainings(self) -> Path:
        """Where trainings announce themselves."""
        return self.settings.trainings or trainings.folder_of(self.workspace)

    def jobs(self) -> dict[str, str]:
        """Submission id -> status of every Ray job that has not ended; drivers by their own ids. Raises Silent."""
        found = {}
        for job in self._ask("GET", "/api/jobs/") or []:
            if job.get("status") not in _ENDED:
                found[str(job.get("submission_id") or job.get("job_id"))] = str(job.get("status"))
        return found

    def submit(self, name: str, entrypoint: str) -> None:
        """Start a Ray job. Raises Silent."""
        self._ask("POST", "/api/jobs/", {"submission_id": name, "entrypoint": entrypoint})

    def stop(self, name: str) -> None:
        """End a Ray job, if it is there. Raises Silent."""
        self._ask("POST", f"/api/jobs/{name}/stop")

    def kernels(self) -> list[str]:
        """Names of the notebook's kernels that are busy, or were opened; nothing without an answer."""
        if not self.facts.get("notebook"):
            return []
        try:
            token = Path(self.facts["notebook_token"]).read_text().strip()
            headers = {"Authorization": f"token {token}"}
            found = _json("GET", f"{self.facts['notebook']}/api/kernels", headers, None)
        except (KeyError, OSError, Silent):
            return []
        return [str(each.get("name")) for each in found or []]

    def processes(self, name: str) -> list[psutil.Process]:
        """The processes of one part of the cluster (`head`, `worker-0`): those whose nearest tag is its."""
        wanted = (self.settings.stack_id, f"lease-{self.settings.cluster}-{name}")
        return [each for each in psutil.process_iter() if _part(each.pid) == wanted]

    def part_of(self, pid: int) -> str | None:
        """Which part of the cluster a process is of."""
        found, start = _part(pid), f"lease-{self.settings.cluster}-"
        if found is None or found[0] != self.settings.stack_id or not found[1].startswith(start):
            return None
        return found[1].removeprefix(start)

    def kill(self, name: str) -> int:
        """kill -9 of all processes of one part, as a machine that goes away. Returns how many."""
        found = self.processes(name)
        for each in found:
            try:
                os.kill(each.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return len(found)

    def training(self, name: str) -> list[Announced]:
        """What the trainings of that name said last, the dead included."""
        return [each for each in trainings.said(self.trainings) if each.name == name]

    def evacuation(self, verb: str) -> dict[str, Any]:
        """What a verb of the evacuation says."""
        module = [sys.executable, "-P", "-m", "stackyard.evacuation"]
        command = [*module, verb, str(self.folder / "evacuation.json"), "--json"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        lines = done.stdout.strip().splitlines()
        return json.loads(lines[-1]) if lines else {"ok": False, "reason": done.stderr.strip()[-300:]}

    def evacuation_asked(self) -> list[dict[str, Any]]:
        """Which trainings were asked for a checkpoint the last time that all was stopped, and which answered."""
        try:
            return json.loads((self.settings.state / "asked.json").read_bytes())
        except (OSError, ValueError):
            return []

    def _ask(self, verb: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ray's dashboard. None for what is not there. Raises Silent."""
        token = (self.folder / "ray-token").read_text().strip()
        return _json(verb, f"{self.facts['dashboard']}{path}", {"Authorization": f"Bearer {token}"}, body)


def _json(verb: str, url: str, headers: dict[str, str], body: dict[str, Any] | None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = headers if body is None else {**headers, "Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=verb)  # noqa: S310  an address of our own
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=_WAIT) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise Silent(f"{url} answers {error.code}: {error.read()[:200].decode(errors='replace')}") from None
    except (OSError, ValueError) as error:
        raise Silent(f"{url} does not answer: {error}") from None


def _part(pid: int) -> tuple[str, str] | None:
    """Stack id and process name of the nearest of a process and its ancestors that carries them: Ray's own processes
    write their titles over their environment."""
    seen = set[int]()
    while pid > 1 and pid not in seen:
        seen.add(pid)
        try:
            entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            parent = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
        except OSError:
            return None
        pairs = (entry.decode(errors="replace").partition("=") for entry in entries)
        found = {name: value for name, _, value in pairs}
        if found.get("STACKYARD_STACK_ID") and found.get("STACKYARD_PROCESS"):
            return found["STACKYARD_STACK_ID"], found["STACKYARD_PROCESS"]
        pid = parent
    return None
