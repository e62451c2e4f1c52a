"""The processes of one leased cluster: started and ended together, whoever holds them up and whatever they spawned."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from stackyard_infra.provider import tagged
from stackyard_infra.provider.daemon import Daemon, Unreachable
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.processes import ProcessKind
from stackyard_infra.provider.site import Site, private_folder, remove_folder


class ProcessGroup:
    """What `manifests` describe, running in `folder`; `tag` is in the environment of all that may write there."""

    def __init__(
        self,
        site: Site,
        folder: Path,
        tag: str,
        manifests: Sequence[Mapping[str, Any]],
        daemon: Callable[[Site], Daemon] = Daemon,
    ) -> None:
        self._site, self._folder, self._tag, self._manifests = site, folder, tag, manifests
        self._daemon, self._processes = daemon, ProcessKind(daemon)

    def supervised(self) -> bool:
        """Whether there is a supervisor to start anything."""
        return self._daemon(self._site).pid() is not None

    def start(self) -> None:
        """Run all; what runs already as it should is left alone. Raises Refusal."""
        for manifest in self._manifests:
            if manifest.get("scratch"):  # sockets of Ray, which take a folder of ours
                private_folder(Path(manifest["scratch"]))
            self._processes.create(self._whole(manifest))

    def sound(self) -> bool:
        """Whether everything runs that should, none of it stopped by a freeze that nobody thawed."""
        for manifest in self._manifests:
            seen = self._processes.read(self._whole(manifest))
            if seen is None or "files" in seen or not seen["healthy"]:
                return False
        return not any(_stopped(process) for process in self.living())

    def living(self) -> list[psutil.Process]:
        """Live processes of the group, whatever became of their parents."""
        found = {process.pid: process for process in tagged.carrying(self._tag)}
        for manifest in self._manifests:
            found |= {process.pid: process for process in tagged.find(self._site.stack_id, manifest["name"])}
        return [process for process in found.values() if process.is_running()]

    def end(self) -> None:
        """End all at once: nothing may write any more, not even while it ends. Raises Refusal for what lives on."""
        for manifest in reversed(self._manifests):
            self.end_one(manifest["name"])
        for process in tagged.carrying(self._tag):  # of a manifest that was lost, or started by hand
            with contextlib.suppress(psutil.Error):
                process.kill()
        _, left = psutil.wait_procs(self.living(), timeout=2)
        if left:
            told = "; ".join(f"{process.pid} {_name(process)}" for process in left)
            raise Refusal(f"Processes of {self._tag.partition('=')[2]} do not end, even when killed: {told}.")

    def end_one(self, name: str) -> None:
        """End one process of the group, and forget it."""
        with contextlib.suppress(Unreachable):
            self._daemon(self._site).kill(name, lambda: tagged.end(self._site.stack_id, name, grace=0))
        left = tagged.end(self._site.stack_id, name, grace=0)
        if left:
            raise Refusal(f"{name} does not end, even when killed: {'; '.join(left)}.")
        remove_folder(self._site.of_process(name))

    def clear(self) -> None:
        """Remove what it kept outside the stack's state."""
        for manifest in self._manifests:
            if manifest.get("scratch"):
                remove_folder(Path(manifest["scratch"]))

    def _whole(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs of a Process, of what a cluster's manifest says."""
        site = {"stack": self._site.stack, "stack_id": self._site.stack_id, "state": str(self._site.state)}
        whole = {"site": site | {"runtime": str(self._site.runtime)}, "secrets": {}, "files": {}, "reload": "restart"}
        return {**whole, "folder": str(self._folder), "stop_timeout": 10, **manifest}


def _stopped(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return "?"
