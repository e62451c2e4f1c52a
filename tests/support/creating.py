"""`python creating.py JOB.json`: creates and takes away leased clusters in a loop, in threads, until it is killed.

With the real kinds over a stand-in for their supervisor, which starts real processes (`sleep`) that outlive it;
evacuation, certificates and leasing are shell scripts that agree at once. Or `bare`: with the ceiling alone, in the
steps that the kinds take, many times as often.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from stackyard_infra.provider import tagged
from stackyard_infra.provider.ceilings import Ceiling, Size, places_folder
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.leases import EvacuationGateKind, LeasedClusterKind
from stackyard_infra.provider.private import write_plain
from stackyard_infra.provider.site import Site
from stackyard_infra.provider.usage import Usage

FIGURES = {"generation": 1, "workers": 1, "cpus": 1, "gpus": 0, "hourly_price": 0.0}
AGREED = {"ok": True, "at": "2027-01-01T00:00:00+00:00", "all_ends": {}}
AGREED |= {"certificate": "c", "path": "p", "verdict": "clean", "sentence": "clean", "lines": [], "away": []}
AGREES = ["/bin/sh", "-c", f"echo '{json.dumps(AGREED)}'"]


class Sleepers:
    """Stands for a supervisord: what it starts is a file with a pid, so that another one finds it again."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def pid(self) -> int:
        return os.getpid()

    def states(self) -> dict[str, dict[str, Any]]:
        found = {}
        for file in self.site.etc.glob("*/pid"):
            with contextlib.suppress(OSError, ValueError):
                found[file.parent.name] = {"statename": "RUNNING", "start": int(file.read_text()), "spawnerr": ""}
        return found

    def run(self, name: str) -> None:
        launch = json.loads((self.site.of_process(name) / "launch.json").read_text())
        environment = os.environ | launch["environment"] | {"STACKYARD_STACK_ID": self.site.stack_id}
        environment |= {"STACKYARD_PROCESS": name}
        started = subprocess.Popen(launch["command"], env=environment, start_new_session=True)
        (self.site.of_process(name) / "pid").write_text(str(started.pid))

    def end(self, name: str) -> None:
        (self.site.of_process(name) / "pid").unlink(missing_ok=True)

    def kill(self, name: str, end: Any) -> None:
        end()
        self.end(name)


class Bare:
    """One cluster of a job: the steps that the kinds take around the ceiling, and nothing else."""

    def __init__(self, job: dict[str, Any], name: str) -> None:
        stack_id = job["site"]["stack_id"]
        self.folder, self.name = Path(job["site"]["state"]) / name, f"{stack_id}-{name}"
        self.tag = f"STACKYARD_CLUSTER={stack_id}/{name}"
        self.ceiling, self.usage = Ceiling(job["ceiling"], places_folder()), Usage(self.folder)

    def opens(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.noted(sealed=True)
        self.ceiling.admit(self.name, self.folder, self.tag, Size(1, 1, 0))
        self.noted(sealed=False)
        self.usage.opened(FIGURES, dt.datetime.now(dt.UTC), runs=False)
        name, _, value = self.tag.partition("=")
        subprocess.Popen(["sleep", "600"], env={**os.environ, name: value}, start_new_session=True)

    def goes(self) -> None:
        for process in tagged.carrying(self.tag):
            process.kill()
            process.wait()
        self.usage.closed(dt.datetime.now(dt.UTC), ran=True)
        self.ceiling.give_back(self.name)
        if self.folder.exists():
            self.noted(sealed=True)
            shutil.rmtree(self.folder)

    def noted(self, *, sealed: bool) -> None:
        write_plain(self.folder / "instance.json", {"instance": "i", "generation": 1, "sealed": sealed})


class Creator:
    """One cluster of a job, with the kinds."""

    def __init__(self, job: dict[str, Any], name: str) -> None:
        site = job["site"]
        self.clusters = LeasedClusterKind(Sleepers, AGREES, AGREES, AGREES)  # type: ignore[arg-type]
        self.gates = EvacuationGateKind(Sleepers, AGREES, AGREES)  # type: ignore[arg-type]
        tag = {"STACKYARD_CLUSTER": f"{site['stack_id']}/{name}"}
        running = {"name": f"lease-{name}", "command": ["sleep", "600"], "environment": tag, "health": {}}
        lease = {"cluster": name, "workers": 1, "cpus": 1, "gpus": 0, "ceiling": job["ceiling"]}
        self.inputs = {
            "site": site,
            "cluster": name,
            "store": job["store"],
            "evacuation": {"store": job["store"]},
            "processes": [running | {"version": "1"}],
            "lease": lease,
        }

    def opens(self) -> None:
        instance = self.clusters.create(self.inputs)["instance"]
        self.gates.create(self.gate(instance))

    def goes(self) -> None:
        record = self.clusters._workspace(self.inputs).record()
        if record is not None:
            self.gates.delete(self.gate(record.instance))
        self.clusters.delete(self.inputs | {"instance": "" if record is None else record.instance})

    def gate(self, instance: str) -> dict[str, Any]:
        return {**{name: self.inputs[name] for name in ("site", "cluster", "store")}, "instance": instance}


def clusters(job: dict[str, Any]) -> list[Creator | Bare]:
    """The clusters of a job."""
    kind = Bare if job["bare"] else Creator
    return [kind(job, name) for name in job["names"]]


def main(file: str) -> None:
    job = json.loads(Path(file).read_text())
    outcomes = os.open(job["outcomes"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def create(creator: Creator | Bare) -> None:
        if job["bare"]:
            creator.goes()  # of one that was killed before
        while True:
            try:
                creator.opens()
                os.write(outcomes, b"opened\n")
            except Refusal as refusal:
                os.write(outcomes, b"refused\n" if "the ceiling is" in str(refusal) else f"{refusal}\n".encode())
            creator.goes()

    threads = [threading.Thread(target=create, args=(creator,)) for creator in clusters(job)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1])
