"""Leases are looked after beside the loop, whatever becomes of it: a look at each cluster twice a minute, as a process.

The loop may wait for a store that is away, for a database or for a bundle; a lease ends all the same. What a look finds
is told to ops (`platform`) and to the cluster's owner, each once, also after a restart.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

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
LONG, MOST = 120.0, 8
"""Seconds after which another look begins beside one that still saves a cluster, so that this holds up no other's end:
who is at a cluster has it locked. And how many there are at a time."""
PATIENCE = 20.0
"""Seconds that a look has to end when the controller does: it lets everybody go whom it had stopped."""
COMMAND = (sys.executable, "-P", "-m", "stackyard.leasing", "reap")

log = structlog.get_logger()


@dataclass(frozen=True, eq=False)
class _Look:
    child: subprocess.Popen[bytes]
    said: IO[bytes]


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
        long: float = LONG,
        senders: Mapping[str, Send] | None = None,
    ) -> None:
        self._settings, self._spec, self._secrets, self._senders = settings, spec, dict(secrets), senders
        self._command, self._period, self._long = tuple(command), period, long
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self._journal: Journal | None = None
        self._looks: list[_Look] = []
        self._tellers: dict[str, Alerts] = {}
        self._to: dict[str, tuple[str, ...]] = {}
        self._wrong, self._failed = "", dict[str, str | None]()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End the looks that run, and look no more."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(PATIENCE + 5)
        self._end()
        for teller in self._tellers.values():
            teller.close()
        if self._journal is not None:
            self._journal.close()

    def look(self) -> dict[str, Any] | None:
        """One look at all clusters, and what came of it is told; None where there are none, or it gave no answer yet.

        What came of earlier looks that have ended meanwhile is told, too.
        """
        folders = clusters(self._settings.leases)
        lease_figures.write(folders, self._settings.runtime / lease_figures.FILE)
        newest = self._begin(folders) if folders and len(self._looks) < MOST else None
        end = time.monotonic() + self._long
        while newest is not None and newest.child.poll() is None and time.monotonic() < end:
            if self._stop.wait(0.05):
                self._end()
                return None
        answers = {each: _answer(each) for each in self._looks if each.child.poll() is not None}
        self._looks = [each for each in self._looks if each not in answers]
        for found in answers.values():
            self._tell([] if found is None else [each for each in found["clusters"] if each.get("outcome") != "busy"])
        return None if newest is None else answers.get(newest)

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

    def _begin(self, folders: Sequence[Path]) -> _Look:
        clock = [] if self._settings.clock is None else [f"--clock={self._settings.clock}"]
        command = [*self._command, *map(str, folders), f"--stack-id={self._settings.stack_id}", *clock, "--json"]
        said = tempfile.TemporaryFile()  # noqa: SIM115  read when the look has ended, which may be long after
        try:
            self._looks.append(_Look(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said), said))
        except BaseException:
            said.close()
            raise
        return self._looks[-1]

    def _end(self) -> None:
        """End the looks that run, each of which lets everybody go whom it had stopped."""
        for each in self._looks:
            each.child.terminate()
        end = time.monotonic() + PATIENCE
        for each in self._looks:
            try:
                each.child.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                each.child.kill()
                each.child.wait()
            each.said.close()
        self._looks = []

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
        if self._to.get(name) != to:  # another owner hears what is new, from the first look after `up` on
            if name in self._tellers:
                before = self._tellers.pop(name)
                journal.write(self._settings.model, name, before.poll(), SystemClock().now())
                before.close()
            self._to[name] = to
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
    return [each for each in folders if any(_may_be(each / name) for name in inside)]


def _events(each: Mapping[str, Any]) -> list[Event]:
    return [Event.model_validate(event) for event in each.get("events", ())]


def _may_be(path: Path) -> bool:
    """False only for what is surely not there: a folder that somebody closed hides no cluster, nor holds up others."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _answer(look: _Look) -> dict[str, Any] | None:
    with look.said:
        look.said.seek(0)
        lines = look.said.read().splitlines()
    try:
        return json.loads(lines[-1])
    except (ValueError, LookupError):
        log.error("a look at the leases gave no answer", code=look.child.returncode)
        return None
