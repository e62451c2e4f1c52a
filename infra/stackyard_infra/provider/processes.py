"""Kinds that run: the supervisor of a stack, and each process under it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from stackyard_infra.provider import tagged
from stackyard_infra.provider.daemon import SUPERVISOR, Daemon, Unreachable
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.health import complaint
from stackyard_infra.provider.kinds import Kind, Plain, changed
from stackyard_infra.provider.ledgers import Ledgers
from stackyard_infra.provider.site import Site, private_folder, remove_folder, write_private

RESTARTS = frozenset({"command", "environment", "folder", "secrets", "version", "stop_timeout"})
"""Inputs that a running process cannot take up."""

ENDS = 5
"""How often a process may end before waiting for its health is given up (the supervisor goes on trying)."""

GRACE = 3.0  # seconds in which a healthy process may miss a probe before `read` calls it unhealthy


class SupervisorKind(Kind):
    """The supervisord of a stack, and the environment that all its processes share."""

    def __init__(self, daemon: Callable[[Site], Daemon] = Daemon) -> None:
        self._daemon = daemon

    def name(self, inputs: Plain) -> str:
        return SUPERVISOR

    def create(self, inputs: Plain) -> dict[str, Any]:
        site = Site.of(inputs)
        daemon = self._daemon(site)
        if daemon.pid() is not None and self._settings(site) == inputs["environment"]:
            daemon.link()
            return {}
        self._end(site, daemon)
        daemon.forget()
        self._start(site, daemon, inputs)
        return {}

    def read(self, state: Plain) -> dict[str, Any] | None:
        site = Site.of(state)
        sound = (site.runtime / "venv").exists() and self._daemon(site).pid() is not None
        return {} if sound else None

    def update(self, state: Plain, inputs: Plain) -> dict[str, Any]:
        site = Site.of(inputs)
        daemon = self._daemon(site)
        self._end(site, daemon)
        self._start(site, daemon, inputs)  # its processes start with it
        return {}

    def delete(self, state: Plain) -> None:
        site = Site.of(state)
        self._end(site, self._daemon(site))

    def _start(self, site: Site, daemon: Daemon, inputs: Plain) -> None:
        daemon.start(inputs["environment"])
        write_private(daemon.folder / "environment.json", json.dumps(dict(inputs["environment"])))

    def _settings(self, site: Site) -> Any:
        try:
            return json.loads((site.of_process(SUPERVISOR) / "environment.json").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def _end(self, site: Site, daemon: Daemon) -> None:
        family = tagged.find(site.stack_id)
        daemon.stop()
        left = tagged.end(site.stack_id, grace=15.0, known=family)
        if left:
            raise Refusal(f"Processes of stack {site.stack} do not end, even when killed: {'; '.join(left)}.")


class ProcessKind(Kind):
    """One supervised process with its private files, its probe and the ports it listens on."""

    outputs: ClassVar[tuple[str, ...]] = ("healthy",)
    replaced_by: ClassVar[frozenset[str]] = frozenset({"site", "name"})

    def __init__(self, daemon: Callable[[Site], Daemon] = Daemon) -> None:
        self._daemon = daemon

    def name(self, inputs: Plain) -> str:
        return f"process/{inputs['name']}"

    def create(self, inputs: Plain) -> dict[str, Any]:
        site = Site.of(inputs)
        known = self._state(site, inputs["name"])
        if known is not None and known["statename"] in ("RUNNING", "STARTING") and not self._write(inputs):
            with contextlib.suppress(Refusal):
                return self._wait(inputs)  # adopted: a killed `up` had made it already
        return self._restart(inputs)

    def read(self, state: Plain) -> dict[str, Any] | None:
        site = Site.of(state)
        if self._state(site, state["name"]) is None:
            return None
        folder = site.of_process(state["name"])
        files = {name: text for name in state["files"] if (text := _text(folder / name)) is not None}
        seen: dict[str, Any] = {} if files == state["files"] else {"files": files}
        return seen | {"healthy": self._healthy(state)}

    def drift(self, state: Plain) -> set[str]:
        return set() if state["healthy"] else {"healthy"}

    def foresee(self, state: Plain, inputs: Plain) -> dict[str, Any]:
        return {"healthy": True}

    def update(self, state: Plain, inputs: Plain) -> dict[str, Any]:
        what = changed(state, inputs)
        if what & RESTARTS or ("files" in what and inputs["reload"] == "restart"):
            return self._restart(inputs)
        self._write(inputs)
        daemon = self._daemon(Site.of(inputs))
        running = self._state(Site.of(inputs), inputs["name"])
        if not state["healthy"]:
            daemon.start_now(inputs["name"])
        # An unhealthy one may never have been told: an earlier `up` was killed between writing and signalling.
        if inputs["reload"] == "hup" and running is not None and running["statename"] == "RUNNING":
            daemon.signal(inputs["name"], "HUP")
        try:
            return self._wait(inputs)
        except Refusal:
            if state["healthy"]:
                raise
            return self._restart(inputs)

    def delete(self, state: Plain) -> None:
        site, name = Site.of(state), state["name"]
        family = tagged.find(site.stack_id, name)  # before its head is gone, which is what holds it together
        Ledgers(site).notice(family)
        with contextlib.suppress(Unreachable):
            self._daemon(site).end(name)
        left = tagged.end(site.stack_id, name, known=family)
        if left:
            raise Refusal(f"{name} does not end, even when killed: {'; '.join(left)}.")
        remove_folder(site.of_process(name))

    def _restart(self, inputs: Plain) -> dict[str, Any]:
        site, name = Site.of(inputs), inputs["name"]
        daemon = self._daemon(site)
        try:
            family = tagged.find(site.stack_id, name)
            daemon.end(name)
            tagged.end(site.stack_id, name, known=family)
            self._write(inputs)
            daemon.run(name)
        except Unreachable:
            raise Refusal(f"{name} cannot be started: the stack's supervisor is gone; run the command again.") from None
        return self._wait(inputs)

    def _write(self, inputs: Plain) -> bool:
        """Put the process' files in place; says whether any was not so already."""
        site = Site.of(inputs)
        private_folder(site.logs)
        private_folder(site.etc)
        folder = private_folder(site.of_process(inputs["name"]))
        secrets = private_folder(folder / "secrets") if inputs["secrets"] else folder / "secrets"
        launch = {
            "name": inputs["name"],
            "stack_id": site.stack_id,
            "command": inputs["command"],
            "environment": inputs["environment"],
            "folder": inputs["folder"],
            "stop_timeout": inputs["stop_timeout"],
            "version": inputs["version"],
        }
        if "stale" in inputs:
            launch["stale"] = inputs["stale"]
        wanted = {folder / name: text for name, text in inputs["files"].items()}
        wanted |= {secrets / name: text for name, text in inputs["secrets"].items()}
        wanted |= {folder / "launch.json": json.dumps(launch, indent=1, sort_keys=True)}
        stale = [path for path, text in wanted.items() if _text(path) != text]
        for path in stale:
            write_private(path, wanted[path])
        for path in (path for path in folder.rglob("*") if path.is_file() and path not in wanted):
            path.unlink()
        return bool(stale)

    def _wait(self, inputs: Plain) -> dict[str, Any]:
        """Wait until healthy. Raises Refusal with the log's last lines when that takes too long."""
        site, name, probe = Site.of(inputs), inputs["name"], inputs["health"]
        limit = probe.get("timeout", 60)
        deadline = time.monotonic() + limit
        wrong: str | None = "it is not running"
        starts: set[int] = set()
        log = site.log(name)
        while time.monotonic() < deadline:
            found = self._state(site, name)
            if found is None:
                raise Refusal(f"{name} cannot be started: the stack's supervisor is gone; run the command again.")
            starts.add(found["start"])
            if len(starts) > ENDS:
                raise Refusal(f"{name} ends as often as it is started. Its log is {log}{_tail(log)}")
            running = _runs(found, probe)
            wrong = complaint(probe, site.of_process(name)) if running else f"it is {found['statename'].lower()}"
            if wrong is None:
                return {"healthy": True}
            time.sleep(0.1)
        raise Refusal(f"{name} is not healthy after {limit} s: {wrong}. Its log is {log}{_tail(log)}")

    def _healthy(self, state: Plain) -> bool:
        site, name = Site.of(state), state["name"]
        deadline = time.monotonic() + GRACE
        while True:
            found = self._state(site, name)
            if _runs(found, state["health"]) and complaint(state["health"], site.of_process(name)) is None:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)

    def _state(self, site: Site, name: str) -> Mapping[str, Any] | None:
        try:
            return self._daemon(site).states().get(name)
        except Unreachable:
            return None


def _runs(found: Mapping[str, Any] | None, probe: Plain) -> bool:
    """Whether it is worth probing: a process that was only just started is, when it can answer for itself."""
    if found is None:
        return False
    return found["statename"] == "RUNNING" or (found["statename"] == "STARTING" and bool(probe.keys() - {"timeout"}))


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def _tail(log: Path, lines: int = 8) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            last = file.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return "."
    return "; its last lines:\n" + "\n".join(f"    {line}" for line in last)
