"""A stack that lends one cluster, `lab`, in which a person works all the time and tells a witness outside of it.

Component, manifest of the saver, provider and evacuation are the real ones; in the place of Ray a small program writes
to the workspace, and each line that it wrote goes to the witness afterwards. So what was made is known without asking
anything that saves: a line that the witness has and no restore gives back is lost.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from killing import Ground, Point, killed_at
from machine import backend, engine
from stackyard_infra.provider import tagged
from tally import Refusal, Row, Tally
from toy import wait_until

CLUSTER = "lab"
PROGRAM = """
import pathlib, sys
from stackyard.spec import load
from stackyard_infra.components.leases import Lease
from stackyard_infra.components.store import ArtifactStore
from stackyard_infra.components.supervision import Supervision
from stackyard_infra.manifests import leases

here, whole = pathlib.Path(__file__).parent, leases.processes

def processes(*arguments, **more):
    named = {each["name"].rpartition("-")[2]: each for each in whole(*arguments, **more)}
    head, saver = named["head"], named["saver"]
    command = [sys.executable, str(here / "person.py"), str(here.parent / "witness.txt")]
    kept = {"name": head["name"], "environment": head["environment"], "health": {"timeout": 30}}
    return [{**kept, "command": command, "version": (here / "edition.txt").read_text()}, saver]

leases.processes = processes
spec = load(here.parent / "stacks" / "local.yaml")
supervision = Supervision("supervision", spec)
store = ArtifactStore("store", spec, supervision=supervision)
for name in spec.environment.clusters:
    Lease(name, spec, store=store, supervision=supervision)
"""
PERSON = """
import json, pathlib, secrets, sys, time
instance = json.loads(pathlib.Path("..", "instance.json").read_text())["instance"]
name, number = secrets.token_hex(4), 0
while True:
    number += 1
    line = f"{time.time():.6f} {instance} {name} {number}\\n"
    for place in ("log.txt", sys.argv[1]):
        with open(place, "a") as file:
            file.write(line)
    time.sleep(0.02)
"""


class Lent(Ground):
    """The stack, what was worked in it, and what of that is nowhere."""

    named = ("LeasedCluster", "EvacuationGate")

    def __init__(self, folder: Path, chosen: engine.Engine) -> None:
        super().__init__(folder, chosen)
        (folder / "infra/__main__.py").write_text(PROGRAM)
        (folder / "infra/person.py").write_text(PERSON)
        self.beside = folder / ".stackyard/local/leases" / CLUSTER
        self.workspace, self.witness = self.beside / "workspace", folder / "witness.txt"
        self.store = folder / ".stackyard/local/store"
        self.made: dict[str, dict[str, bytes]] = {}
        """What was put into the workspace besides the log: name and content, by instance."""
        self.checked = set[str]()
        """Instances that are gone, and were looked at."""
        self._settings: dict[str, Any] = {}
        self.edit()
        self.saves("1h")

    def saves(self, every: str) -> None:
        """How often, from the next `up` on."""
        lent = f"clusters: {{{CLUSTER}: {{owner: ada, save: {{every: {every}}}}}}}\n"
        (self.folder / "stacks/local.yaml").write_text(f"project: ../examples/toy\ntarget: local\n{lent}")

    def edit(self) -> None:
        self.edition += 1
        (self.folder / "infra/edition.txt").write_text(f"edition {self.edition}")

    def instance(self) -> str:
        """Who lives in the workspace; empty: nobody."""
        place = self.beside / "instance.json"
        return json.loads(place.read_text())["instance"] if place.exists() else ""

    def work(self, name: str) -> bool:
        """Somebody puts a file into the workspace, if there is one. Whether there was."""
        if not self.workspace.is_dir():
            return False
        data = self.made.setdefault(self.instance(), {})[name] = random.Random(name).randbytes(5000)
        (self.workspace / name).write_bytes(data)
        return True

    def working(self) -> None:
        """Return once the person works."""
        before = len(self.told_lines(self.instance()))
        wait_until(lambda: len(self.told_lines(self.instance())) > before)

    def told_lines(self, instance: str) -> set[str]:
        """What the witness heard of one instance, but for a line that is half written."""
        text = self.witness.read_text() if self.witness.exists() else ""
        return {line for line in text[: text.rfind("\n") + 1].splitlines() if line.split()[1] == instance}

    def remember(self) -> None:
        """Keep what a restore needs when the cluster is gone."""
        place = self.beside / "evacuation.json"
        if place.exists():
            self._settings = json.loads(place.read_text())

    def complaint(self) -> str:
        """What is wrong with a stack that should be up; empty: nothing."""
        there = {tagged.tags_of(process.pid).get(tagged.PROCESS_TAG) for process in tagged.find(self.stack_id)}
        if not there >= {"supervisor", f"lease-{CLUSTER}-head", f"lease-{CLUSTER}-saver"}:
            return f"runs {there}"
        stopped = [each.pid for each in tagged.find(self.stack_id) if each.status() == "stopped"]
        if stopped:
            return f"stand still: {stopped}"
        record = json.loads((self.beside / "instance.json").read_text())
        if record["sealed"]:
            return "the cluster is sealed"
        return self.lacks(record["instance"], self.workspace) or self.differs()

    def lacks(self, instance: str, folder: Path, tally: Tally | None = None, until: float | None = None) -> str:
        """What was made (before `until`, seconds since 1970) and is not in `folder`; it is counted as lost."""
        log, made = folder / "log.txt", self.made.get(instance, {})
        lines = self.told_lines(instance)  # first: the person may be writing, and the witness hears of it later
        lines -= set(log.read_text().splitlines()) if log.exists() else set()
        lines = {line for line in lines if until is None or float(line.split()[0]) < until}
        files = [name for name, data in made.items() if _bytes(folder / name) != data]
        size = sum(len(line) + 1 for line in lines) + sum(len(made[name]) for name in files)
        if size and tally is not None:
            tally.lost.append((f"{instance}: {len(lines)} lines, files {files}", size))
        return f"{size} bytes of {instance} are lost: {len(lines)} lines, files {files}" if size else ""

    def restored(self, what: str, target: Path) -> str:
        """Bring a version to `target`: what is wrong; empty: nothing."""
        state = target.with_name("settings")
        shutil.rmtree(state, ignore_errors=True)
        shutil.rmtree(target, ignore_errors=True)
        state.mkdir()
        place = state / "evacuation.json"
        place.write_text(json.dumps(self._settings | {"state": str(state)}))
        command = [sys.executable, "-m", "stackyard.evacuation", "restore", str(place), what, str(target)]
        done = subprocess.run(command, capture_output=True, text=True)
        return "" if done.returncode == 0 else done.stdout + done.stderr

    def receipt(self, instance: str) -> str:
        """Where the newest receipt of an instance lies; empty: nowhere."""
        found = [
            (body["created"], str(path.relative_to(self.store)))
            for path in (self.store / "receipts" / CLUSTER).glob("*.json")
            if (body := json.loads(path.read_bytes())["body"])["instance"] == instance
        ]
        return max(found, default=("", ""))[1]

    def next(self, then: str, worked: bool, tally: Tally) -> str:
        """The next command, and what is wrong after it. It must refuse what was made after its gate had gone."""
        self.remember()
        if then == "up":
            status = self.make_up()
            if not status:
                self.working()
                self.remember()
            return f"make up ended with {status}" if status else self.complaint()
        must = worked and self.unguarded()
        status = self.make_down()
        if must or status:
            tally.refusals.append(Refusal("a destroy between gate and cluster, after work", must, status != 0))
            if lost := self.lacks(self.instance(), self.workspace, tally):
                return f"refused, and {lost}"
            status = self.make_up() or self.make_down()
        left = self.leftovers()
        tally.leftovers += left
        gone = self.gone_well(tally)
        return f"make down ended with {status}" if status else ", ".join(left) or gone or self.uncertified(tally)

    def certificates(self, subject: str) -> list[dict[str, Any]]:
        """What was certified of the stack or of an instance, the oldest first."""
        found = sorted((self.store / "certificates" / self.stack_id).glob(f"{subject}-*.json"))
        return [json.loads(path.read_bytes())["body"] for path in found]

    def uncertified(self, tally: Tally) -> str:
        """What has no clean certificate, of a stack that was taken down and of every instance that is gone."""
        wrong = ""
        for subject in ("stack", *(f"cluster-{CLUSTER}-{instance}" for instance in sorted(self.checked))):
            newest = (self.certificates(subject) or [None])[-1]
            if newest is None or not newest["clean"]:
                wrong = wrong or f"{subject} has no clean certificate"
                tally.leftovers += [f"{subject}: {leak}" for leak in (newest or {}).get("leaks", [])]
        return wrong

    def gone_well(self, tally: Tally) -> str:
        """What is wrong with instances that are gone: what was made on them and is in no restore of their receipts."""
        heard = {line.split()[1] for line in self.witness.read_text().splitlines()} if self.witness.exists() else set()
        wrong = ""
        for instance in sorted((heard | self.made.keys()) - self.checked - {self.instance()}):
            target, given = self.folder / "back", self.receipt(instance)
            said = self.restored(given, target) if given else f"there is no receipt of {instance}"
            wrong = wrong or said
            wrong = self.lacks(instance, target, tally) or wrong
            shutil.rmtree(target, ignore_errors=True)
            self.checked.add(instance)
        return wrong

    def unguarded(self) -> bool:
        """Whether a cluster is there whose gate has done its work, or was never made, and none was being made.

        The engine refreshes first, and a gate whose cluster is sealed is then gone from the state.
        """
        record, noted = (_plain(self.beside / name) for name in ("instance.json", "saver/sealed.json"))
        same = bool(noted) and all(noted.get(key) == record.get(key) for key in ("instance", "generation"))
        types = {resource["type"].rpartition(":")[2] for resource in self.resources()}
        begun = backend.pending(self.folder / ".stackyard/backend", "local")
        return (
            "LeasedCluster" in types
            and not begun
            and bool("EvacuationGate" not in types or record.get("sealed") or same)
        )


def lived_through(lent: Lent, point: Point, state: str, tally: Tally) -> Row:
    """Kill at `point`, have somebody work on where there is still a workspace, take up the next command."""
    started, worked = time.monotonic(), False
    killed = killed_at(lent, point, state)
    if point.victim == "engine":  # else the next command comes at once, while what was killed may still be at work
        lent.settled()
        worked = lent.work(f"after-{len(tally.rows)}")
    wrong = lent.next(point.then, worked, tally)
    tally.leftovers += (strays := lent.settled())
    wrong = wrong or lent.gone_well(tally) or ", ".join(strays)
    seconds = time.monotonic() - started
    row = Row(point.operation, point.event, point.occurrence, point.victim, point.then, killed, wrong, seconds)
    tally.rows.append(row)
    return row


def _plain(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes()) if path.exists() else {}


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
