"""One leased cluster on this disk: its workspace, whose work it is, and the processes that may write in it.

    STATE/leases/CLUSTER/workspace/       what people made; nobody but people writes here
                        /instance.json    which instance lives here, its generation, whether it is sealed
                        /evacuation.json  what the evacuation needs to know; made again before each use
                        /processes.json   what runs while it is open
                        /lease.json       when it ends, who owns it, how often it is saved

Sealed means: nothing of it runs, and what runs is started by opening it, which makes a new generation. So a receipt,
which names instance and generation, is worthless the moment that anybody may write again.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from stackyard_infra.provider import tagged
from stackyard_infra.provider.backends import backend_url
from stackyard_infra.provider.daemon import Daemon, Unreachable
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.private import public_half, random_file, read_plain, write_plain
from stackyard_infra.provider.processes import ProcessKind
from stackyard_infra.provider.site import Site, private_folder, remove_folder, write_private

CLUSTER_TAG = "STACKYARD_CLUSTER"
"""In the environment of every process that may write in a workspace; its value is `<stack id>/<cluster>`."""

SETTINGS = {"exclude": [], "include": [], "largest": None, "encrypt_key": None}
"""What holds when a settings file was lost."""


@dataclass(frozen=True)
class Record:
    """Which instance lives in the workspace. `generation` grows each time that it is opened, `opened` is when that
    was first (ISO, UTC)."""

    instance: str
    generation: int = 0
    sealed: bool = True
    opened: str = ""


class Workspace:
    """The workspace of `cluster` at `site`. Every method may be repeated after a kill."""

    def __init__(self, site: Site, cluster: str, daemon: Callable[[Site], Daemon] = Daemon) -> None:
        self.site, self.cluster = site, cluster
        self.folder = site.state / "leases" / cluster
        self.path = self.folder / "workspace"
        self.settings = self.folder / "evacuation.json"
        self._daemon, self._processes = daemon, ProcessKind(daemon)

    def record(self) -> Record | None:
        """Who lives here, or None when that is not known."""
        found = read_plain(self.folder / "instance.json")
        return Record(**found) if isinstance(found, dict) and found.keys() == asdict(Record("")).keys() else None

    def sealed(self) -> bool:
        """Whether nothing of it may run: it was never opened, or an evacuation ended, though its gate was killed."""
        record, noted = self.record(), read_plain(self.folder / "saver" / "sealed.json")
        if record is None or record.sealed:
            return record is not None
        same = (record.instance, record.generation)
        return isinstance(noted, dict) and (noted.get("instance"), noted.get("generation")) == same

    def empty(self) -> bool:
        """Whether there is nothing that could be lost."""
        try:
            with os.scandir(self.path) as entries:
                return next(entries, None) is None
        except FileNotFoundError:
            return True
        except OSError:
            return False  # what cannot be read is not known to be nothing

    def adopt(self) -> Record:
        """Make what is missing around the work that is there; an instance that is known stays the same."""
        for folder in (self.site.state / "leases", self.folder, self.path, self.site.state / "keys"):
            private_folder(folder)
        self._clear()
        for name in ("ray-token", "notebook-token"):
            if not (self.folder / name).exists():
                write_private(self.folder / name, secrets.token_hex(32))
        return self.record() or self._write(Record(secrets.token_hex(8)))

    def describe(
        self, evacuation: Mapping[str, Any], processes: list[dict[str, Any]], lease: Mapping[str, Any]
    ) -> None:
        """Keep what the evacuation, the gate and the calendar need when no program tells them."""
        gone = {each["name"] for each in self._known()} - {each["name"] for each in processes}
        for name in sorted(gone):
            self._end(name)
        write_plain(self.folder / "processes.json", processes)
        write_plain(self.folder / "lease.json", {**lease, **self._placed()})
        self.prepare(told=evacuation)

    def prepare(self, store: str | None = None, told: Mapping[str, Any] | None = None) -> Path:
        """The settings of the evacuation, true for where the workspace lies now and who lives in it.

        `told` is what the program asks for; without it, what it last asked for holds, or `store` where that was lost.
        """
        before = read_plain(self.settings) or {}
        known = before if told is None else {**told, "trusted_keys": before.get("trusted_keys", [])}
        record = self.record() or self.adopt()
        key = self.site.state / "keys" / "receipt-key"
        public = public_half(key)
        settings: dict[str, Any] = SETTINGS | ({"store": store} if store else {}) | known
        settings |= {
            "stack": self.site.stack,
            "stack_id": self.site.stack_id,
            "cluster": self.cluster,
            "instance": record.instance,
            "generation": record.generation,
            "workspace": str(self.path),
            "state": str(private_folder(self.folder / "saver")),
            "receipt_key": str(key),
            "trusted_keys": sorted({public, *known.get("trusted_keys", [])}),
            "processes_tag": f"{CLUSTER_TAG}={self.site.stack_id}/{self.cluster}",
        }
        if settings["encrypt_key"]:
            settings["encrypt_key"] = str(random_file(self.site.state / "keys" / "workspace-key"))
        if settings != before:
            write_plain(self.settings, settings)
        return self.settings

    def unseal(self) -> Record:
        """Say that work may begin: before anything starts, so that no receipt of before holds any more."""
        record = self.record() or self.adopt()
        first = record.opened or dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        opened = self._write(replace(record, generation=record.generation + 1, sealed=False, opened=first))
        self.prepare()
        return opened

    def lease(self) -> dict[str, Any]:
        """When it ends and whose it is, as the program last said."""
        return read_plain(self.folder / "lease.json") or {}

    def seal(self) -> None:
        """End every process at once (nothing may write any more, not even while it ends), and say so."""
        for name in [each["name"] for each in reversed(self._known())]:
            self._end(name)
        left = [f"{p.pid} {p.name()}" for p in self.writers()]
        if left:
            raise Refusal(f"Processes of cluster {self.cluster} do not end, even when killed: {'; '.join(left)}.")
        record = self.record()
        if record is not None:
            self._write(replace(record, sealed=True))

    def start(self) -> None:
        """Run what the cluster consists of; what runs already as it should is left alone. Raises Refusal."""
        for inputs in self._known():
            if inputs.get("scratch"):  # sockets of Ray, which take a folder of ours
                private_folder(Path(inputs["scratch"]))
            self._processes.create(self._whole(inputs))

    def sound(self) -> bool:
        """Whether everything runs that should, none of it stopped by a freeze that nobody thawed."""
        if not self.path.is_dir():
            return False
        for inputs in self._known():
            seen = self._processes.read(self._whole(inputs))
            if seen is None or "files" in seen or not seen["healthy"]:
                return False
        return not any(_stopped(process) for process in self.writers())

    def writers(self) -> list[psutil.Process]:
        """Live processes of this cluster's, whatever became of their parents."""
        found = {}
        for inputs in self._known():
            found |= {process.pid: process for process in tagged.find(self.site.stack_id, inputs["name"])}
        return [process for process in found.values() if process.is_running()]

    def remove(self) -> None:
        """Take everything away. The workspace leaves its place in one step: a half removed one is never adopted."""
        if self.path.exists():
            self.path.rename(self.folder / f".removed-{secrets.token_hex(4)}")
        self._clear()
        for inputs in self._known():
            if inputs.get("scratch"):
                remove_folder(Path(inputs["scratch"]))
        remove_folder(self.folder)
        with contextlib.suppress(OSError):  # others live there, too
            self.folder.parent.rmdir()

    def _placed(self) -> dict[str, Any]:
        """What of a lease only the place knows where it is kept, and whoever keeps its state."""
        act = [sys.executable, "-P", "-m", "stackyard_infra.suspending"]
        checkout = self.site.state.parents[1]
        return {
            "stack": self.site.stack,
            "stack_id": self.site.stack_id,
            "backend": backend_url(checkout),
            "checkout": str(checkout),
            "runtime": str(self.site.runtime),
            "ray_token": str(self.folder / "ray-token"),
            "notebook_token": str(self.folder / "notebook-token"),
            "tag": f"{CLUSTER_TAG}={self.site.stack_id}/{self.cluster}",
            "suspend": [*act, "suspend", str(self.folder)],
            "resume": [*act, "resume", str(self.folder)],
        }

    def _clear(self) -> None:
        for removed in self.folder.glob(".removed-*"):
            for folder, inside, _ in os.walk(removed):  # what its owner closed to himself goes, too
                for each in (os.path.join(folder, name) for name in inside):
                    if not os.path.islink(each):
                        os.chmod(each, 0o700)
            remove_folder(removed)

    def _end(self, name: str) -> None:
        with contextlib.suppress(Unreachable):
            self._daemon(self.site).kill(name, lambda: tagged.end(self.site.stack_id, name, grace=0))
        left = tagged.end(self.site.stack_id, name, grace=0)
        if left:
            raise Refusal(f"{name} does not end, even when killed: {'; '.join(left)}.")
        remove_folder(self.site.of_process(name))

    def _known(self) -> list[dict[str, Any]]:
        return read_plain(self.folder / "processes.json") or []

    def _whole(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs of a Process, of what a cluster's manifest says."""
        site = {"stack": self.site.stack, "stack_id": self.site.stack_id, "state": str(self.site.state)}
        whole = {"site": site | {"runtime": str(self.site.runtime)}, "secrets": {}, "files": {}, "reload": "restart"}
        return {**whole, "folder": str(self.path), "stop_timeout": 10, **inputs}

    def _write(self, record: Record) -> Record:
        write_plain(self.folder / "instance.json", asdict(record))
        return record


def _stopped(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False
