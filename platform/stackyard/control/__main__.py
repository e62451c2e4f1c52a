"""`python -m stackyard.control SETTINGS.json`: one controller, for as long as it is supervised.

Exit codes: 0 asked to stop, 1 the artifact store is away (and no cluster is lent, which is looked after meanwhile),
4 another controller of this stack is at work.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path

import structlog

from stackyard.clock import Clock, clock_of
from stackyard.control.journal import Journal
from stackyard.control.lending import Lending, clusters
from stackyard.control.local import LocalRuns
from stackyard.control.projector import Projector
from stackyard.control.reconciler import Reconciler
from stackyard.control.seeds import Seeds
from stackyard.control.settings import ControllerSettings
from stackyard.control.worker import Worker, WorkerSettings
from stackyard.monitoring.senders import Alerts
from stackyard.spec import plain
from stackyard.spec.loop import AlertsSpec
from stackyard.store.documents import public_text
from stackyard.store.keys import ensure_signing_key, read_private
from stackyard.store.objects import Store

PERIOD = 1.0
"""Seconds between looks at the world."""
HURRY, GLANCE = 0.2, 0.02
"""The same where time is only played and something is under way, and how often its clock and the worker's answers are
glanced at meanwhile: whoever moves the clock waits for this loop."""

log = structlog.get_logger()


def main(path: str) -> int:
    """Reconcile until SIGTERM or SIGINT."""
    settings = ControllerSettings.model_validate_json(Path(path).read_bytes())
    if not _is_there(settings.store) and not clusters(settings.leases):
        log.error("the artifact store is away", store=settings.store)
        return 1
    settings.runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(settings.runtime / "controller.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.error("another controller of this stack is at work", stack=settings.stack)
        return 4
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    lending = Lending(settings, _alerts_spec(settings), _secrets(settings.secrets_folder, settings.alert_secrets))
    lending.start()
    try:
        return _reconcile(settings, stop)
    finally:
        lending.stop()


def _reconcile(settings: ControllerSettings, stop: threading.Event) -> int:
    """The loop, as soon as the store is there: leases end without it."""
    if not _is_there(settings.store):
        log.error("the artifact store is away", store=settings.store)
        while not _is_there(settings.store):
            if stop.wait(PERIOD):
                return 0
    journal = Journal(settings.database)
    journal.migrate()
    of_data = settings.project["data"]["source"].get("secrets", ())
    data_secrets = _secrets(settings.secrets_folder, of_data)
    runs, seeds = LocalRuns(settings.runtime, settings.log_folder, data_secrets), Seeds(settings, data_secrets)
    projector, clock = Projector(), clock_of(settings.clock, known=True)
    worker, alerts = _worker(settings), _alerts(settings, clock, journal)
    reconciler = Reconciler(
        settings,
        store=Store.open(settings.store),
        journal=journal,
        runs=runs,
        projector=projector,
        clock=clock,
        worker=worker,
        alerts=alerts,
    )
    log.info("started", stack=settings.stack, model=settings.model)
    while not stop.is_set():
        settled, lived = False, _told(clock)
        seeds.look()
        try:
            settled = reconciler.step()
        except Exception as error:  # the loop outlives any one look; what failed is seen again
            try:
                news = reconciler.note(error)
            except Exception:  # noqa: BLE001 (the journal is away, too)
                news = True
            if news:
                log.exception("step failed", error=str(error))
        if settings.clock is None:
            stop.wait(PERIOD)
        else:
            _glance(stop, clock, lived, worker, PERIOD if settled else HURRY)
    seeds.stop()
    worker.stop()
    alerts.close()
    projector.stop()
    for run_id in runs.stop(seconds=20):
        journal.excused(run_id)
    journal.close()
    return 0


def _is_there(store: str) -> bool:
    """False for a folder that is away: an empty one in its place would have no champion, and a second first model
    would be trained and released."""
    return "://" in store or Path(store).is_dir()


def _glance(stop: threading.Event, clock: Clock, lived: dt.datetime | None, worker: Worker, seconds: float) -> None:
    """Rest for `seconds`, or until the clock is not at `lived`, an answer has come or it is time to stop."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and _told(clock) == lived and not worker.answered and not stop.wait(GLANCE):
        pass


def _told(clock: Clock) -> dt.datetime | None:
    try:
        return clock.now()
    except (OSError, ValueError):  # the next look says so
        return None


def _worker(settings: ControllerSettings) -> Worker:
    trusted = (public_text(ensure_signing_key(settings.signing_key).public_key()),)
    told = WorkerSettings(
        model=settings.model,
        store=settings.store,
        project=settings.project,
        cache=settings.cache,
        trusted=trusted,
    )
    return Worker(told, settings.log_folder / "worker")


def _alerts(settings: ControllerSettings, clock: Clock, journal: Journal) -> Alerts:
    """What was told before a restart is not told again."""
    spec = _alerts_spec(settings)
    secrets = _secrets(settings.secrets_folder, settings.alert_secrets)
    return Alerts(spec, secrets, clock, model=settings.model, state=journal.read(settings.model, "alerts"))


def _alerts_spec(settings: ControllerSettings) -> AlertsSpec:
    return plain.load(AlertsSpec, settings.project.get("alerts", {}))


def _secrets(folder: Path | None, names: Collection[str]) -> dict[str, str]:
    if folder is None or not folder.is_dir():
        return {}
    return {name: read_private(folder / name).decode() for name in sorted(names) if (folder / name).exists()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
