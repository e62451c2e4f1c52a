"""Who opens a cluster for the first time finds the project's code and data in it: the controller sees to it.

It is the one that has the secrets of the data source, and it looks again and again: `up` does not wait for it, and
whatever was killed or failed is tried again. One process does one cluster, and carries the cluster's tag: an
evacuation stops it like any other writer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from stackyard.control.settings import ControllerSettings
from stackyard.leasing.seeding import MARK, SeedingSettings, wanted

AGAIN, LONGEST = 60.0, 3600.0
"""Seconds between two tries for one cluster: twice as long each time, up to the longest."""
COMMAND = (sys.executable, "-m", "stackyard.leasing.seeding")

log = structlog.get_logger()


class Seeds:
    """The processes that put code and data into new workspaces."""

    def __init__(
        self,
        settings: ControllerSettings,
        secrets: Mapping[str, str],
        *,
        command: tuple[str, ...] = COMMAND,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._secrets, self._command, self._clock = settings, dict(secrets), command, clock
        self._children: dict[Path, subprocess.Popen[bytes]] = {}
        self._next: dict[Path, tuple[float, float]] = {}  # when it may be tried again, and how long to wait then

    def look(self) -> None:
        """Start what is wanted, end what no longer is. Costs nothing where no cluster is lent."""
        leases = self._settings.leases
        for folder in [] if leases is None else sorted(leases.glob("*/instance.json")):
            self._of(folder.parent)
        for folder in [each for each in self._children if not each.exists()]:
            self._ended(folder, wanted=False)

    def stop(self) -> None:
        """End them all; what they had begun is begun anew some time."""
        for folder in list(self._children):
            self._ended(folder, wanted=False)

    def _of(self, folder: Path) -> None:
        want = wanted(folder)
        if folder in self._children:
            self._ended(folder, wanted=want)
        elif want and self._clock() >= self._next.get(folder, (0.0, AGAIN))[0]:
            wait = self._next.get(folder, (0.0, AGAIN))[1]
            self._next[folder] = (self._clock() + wait, min(2 * wait, LONGEST))
            try:
                self._children[folder] = self._start(folder)
            except (OSError, ValueError, KeyError) as error:
                log.warning("code and data cannot be put into a workspace", cluster=folder.name, error=str(error))

    def _ended(self, folder: Path, *, wanted: bool) -> None:
        child = self._children[folder]
        if child.poll() is None and wanted:
            return
        if child.poll() is None:
            child.kill()  # it may have been stopped by an evacuation
        code = child.wait()
        del self._children[folder]
        if (folder / MARK).exists():  # it was given; another instance of that name waits for nothing
            self._next.pop(folder, None)
        if code and wanted:
            log.warning("a workspace is still without code and data", cluster=folder.name, log=str(self._log(folder)))

    def _start(self, folder: Path) -> subprocess.Popen[bytes]:
        told = self._settings
        where = told.runtime / "seeds"
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = SeedingSettings(cluster=folder, project=told.project, project_folder=told.project_folder)
        path = where / f"{folder.name}.json"
        path.write_text(settings.model_dump_json())
        tag, _, value = json.loads((folder / "evacuation.json").read_bytes())["processes_tag"].partition("=")
        with self._log(folder).open("ab") as output:
            return subprocess.Popen(
                [*self._command, str(path)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._secrets, tag: value},
                start_new_session=True,
            )

    def _log(self, folder: Path) -> Path:
        self._settings.log_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._settings.log_folder / f"lease-{folder.name}-seeding.log"
