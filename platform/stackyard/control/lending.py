"""Leases are looked after beside the loop, whatever becomes of it: a look at each cluster twice a minute, as a process.

The loop may wait for a store that is away, for a database or for a bundle; a lease ends all the same. What a look finds
is told to ops (`platform`) and to the cluster's owner, each once, also after a restart.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from stackyard.clock import SystemClock
from stackyard.control import lease_figures
from stackyard.control.journal import Journal
from stackyard.control.settings import ControllerSettings
from stackyard.monitoring.alerts import Event
from stackyard.monitoring.senders import Alerts, Send
from stackyard.spec.loop import AlertsSpec

PERIOD = 30.0
"""Seconds between the end of one look and the start of the next: what a lease may be over before it is ended."""
PATIENCE = 20.0
"""Seconds that a look has to end when the controller does: it lets everybody go whom it had stopped."""
COMMAND = (sys.executable, "-P", "-m", "stackyard.leasing", "reap")

log = structlog.get_logger()


class Lending:
    """The looks, in a thread of their own. `secrets`: destinations by their names."""

    def __init__(
        self,
        settings: ControllerSettings,
        spec: AlertsSpec,
        secrets: Mapping[str, str],
        *,
        command: Sequence[str] = COMMAND,
        period: float = PERIOD,
        senders: Mapping[str, Send] | None = None,
    ) -> None:
        self._settings, self._spec, self._secrets, self._senders = settings, spec, dict(secrets), senders
        self._command, self._period = tuple(command), period
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self._journal: Journal | None = None
        self._tellers: dict[str, Alerts] = {}
        self._wrong, self._failed = "", dict[str, str | None]()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End the look that runs, and look no more."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(PATIENCE + 5)
        for teller in self._tellers.values():
            teller.close()
        if self._journal is not None:
            self._journal.close()

    def look(self) -> dict[str, Any] | None:
        """One look at all clusters, and what came of it is told; None where there are none, or it gave no answer."""
        folders = clusters(self._settings.leases)
        lease_figures.write(folders, self._settings.runtime / lease_figures.FILE)
        if not folders:
            return None
        found = self._reap(folders)
        if found is not None:
            self._tell(found["clusters"])
        return found

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
                self._wrong = ""
            except Exception as error:  # a look that fails is followed by another
                if str(error) != self._wrong:
                    log.exception("leases could not be looked after", error=str(error))
                self._wrong = str(error)
            self._stop.wait(self._period)

    def _reap(self, folders: Sequence[Path]) -> dict[str, Any] | None:
        clock = [] if self._settings.clock is None else [f"--clock={self._settings.clock}"]
        command = [*self._command, *map(str, folders), f"--stack-id={self._settings.stack_id}", *clock, "--json"]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        while True:
            try:
                said, _ = child.communicate(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                if self._stop.is_set():
                    return _ended(child)
        try:
            return json.loads(said.splitlines()[-1])
        except (ValueError, LookupError):
            log.error("a look at the leases gave no answer", code=child.returncode)
            return None

    def _tell(self, found: Sequence[Mapping[str, Any]]) -> None:
        """Hand over what is new, to ops and to owners; who is both hears it once."""
        ops = self._spec.owners.get("platform", ())
        everything = [event for each in found for event in _events(each)]
        self._offer("", ops, everything)
        for each in found:
            self._log(each)
            owner = tuple(name for name in each.get("tell", ()) if name not in ops)
            if owner:
                self._offer(each["cluster"], owner, _events(each))

    def _log(self, each: Mapping[str, Any]) -> None:
        cluster, failed = each["cluster"], each.get("failed")
        if each.get("did"):
            log.info("lease", cluster=cluster, did=each["did"], because=each.get("because"))
        if failed != self._failed.get(cluster):
            self._failed[cluster] = failed
            log.warning("lease", cluster=cluster, failed=failed or "no more")

    def _offer(self, cluster: str, to: tuple[str, ...], events: Sequence[Event]) -> None:
        name = f"alerts-lease-{cluster}" if cluster else "alerts-leases"
        journal = self._opened()
        if name not in self._tellers:
            spec = self._spec.model_copy(update={"owners": {"platform": to}, "webhooks": {}})
            kept = journal.read(self._settings.model, name)
            self._tellers[name] = Alerts(
                spec, self._secrets, SystemClock(), model=self._settings.stack, state=kept, senders=self._senders
            )
        teller = self._tellers[name]
        teller.offer(events)
        journal.write(self._settings.model, name, teller.poll(), SystemClock().now())

    def _opened(self) -> Journal:
        if self._journal is None:  # made ready by the loop; until then nobody is told, and all of it is told later
            self._journal = Journal(self._settings.database)
        return self._journal


def clusters(leases: Path | None) -> list[Path]:
    """The folders of leased clusters; one whose files are broken is among them, so that somebody hears of it."""
    if leases is None or not leases.is_dir():
        return []
    inside = ("lease.json", "instance.json", "workspace")
    folders = sorted(each for each in leases.iterdir() if each.is_dir() and not each.name.startswith("."))
    return [each for each in folders if any((each / name).exists() for name in inside)]


def _events(each: Mapping[str, Any]) -> list[Event]:
    return [Event.model_validate(event) for event in each.get("events", ())]


def _ended(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
