"""A small service with a loop around it, all real but for training: two replicas behind HAProxy, store, controller.

A run is played: it brings the bundle that a drill put down, with held-out rows that pass the gates. From there on
everything is the product's: Releases, arms, fuses, logs, the worker's verdicts, HTTP.
"""

from __future__ import annotations

import datetime as dt
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

import parcels
from played import PlayedProjector
from stackyard.clock import FileClock
from stackyard.control.journal import Journal
from stackyard.control.reconciler import Reconciler
from stackyard.control.settings import ControllerSettings
from stackyard.control.worker import Worker, WorkerSettings
from stackyard.serving.flush import flush_all
from stackyard.serving.replica import Replica
from stackyard.spec import plain
from stackyard.store import inbox, releases
from stackyard.store.documents import public_text
from stackyard.store.keys import ensure_signing_key, ensure_token
from stackyard.store.objects import Store

START = dt.datetime(2026, 3, 10, tzinfo=dt.UTC)
REPLICAS = 2
PERIOD = 1.0
"""Seconds between the controller's looks, as in life."""
TICK = 0.05
DEADLINE = 5.0
"""Seconds within which a replica answers; a challenger may use a third."""


class Ground:
    """The service. `rollout(...)` gives it a loop with that rollout; close it at the end."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sy-drill-", dir="/tmp")  # short: a socket lies in it
        self.folder = Path(self._folder.name)
        self.store = Store.open(self.folder / "store")
        self.clock = FileClock(self.folder / "clock")
        self.clock.set(START)
        self.token = ensure_token(self.folder / "token")
        self.operator = ensure_signing_key(self.folder / "keys" / "operator")
        self.key = ensure_signing_key(self.folder / "keys" / "release")
        self.maker = parcels.Maker(self.store, self.folder / "made")
        self.runs = parcels.PreparedRuns(self.store)
        self._code = self.folder / "project"
        self._code.mkdir()
        (self._code / "parcels_features.py").write_text(parcels.CODE.format(deed="pass", noise="east", much=0.4))
        self.database = f"sqlite:///{self.folder / 'db' / 'journal.sqlite'}"
        self.journal = Journal(self.database)
        self.journal.migrate()
        self._first_release()
        self._client = httpx.Client(timeout=5, trust_env=False)
        *self.ports, front = _free_ports(REPLICAS + 1)
        self.url = f"http://127.0.0.1:{front}"
        self.replicas = [Replica(self._arguments()) for _ in range(REPLICAS)]
        self._front = self._start_front(front)
        self._controllers = 0

    def close(self) -> None:
        """End everything that was started."""
        self._client.close()
        self._front.send_signal(signal.SIGTERM)
        self._front.wait(10)
        for replica in self.replicas:
            replica.drain()
        self.journal.close()
        self._folder.cleanup()

    @contextmanager
    def rollout(self, **rollout: Any) -> Iterator[Reconciler]:
        """A controller with its worker, under this rollout, as long as the block lasts."""
        spec = plain.dump(parcels.project(rollout=rollout, monitoring={"rows": 2000}, retraining=_BY_HAND))
        self._controllers += 1
        trusted = (public_text(self.key.public_key()),)
        told = WorkerSettings(
            model=parcels.MODEL,
            store=str(self.folder / "store"),
            project=spec,
            cache=self.folder / "cache-worker",
            trusted=trusted,
        )
        worker = Worker(told, self.folder / f"worker-{self._controllers}")
        try:
            yield Reconciler(
                self._settings(spec),
                store=self.store,
                journal=self.journal,
                runs=self.runs,  # type: ignore[arg-type]
                projector=PlayedProjector(),  # type: ignore[arg-type]
                clock=self.clock,
                worker=worker,
            )
        finally:
            worker.stop()

    def chain(self) -> list[releases.Release]:
        """Every Release."""
        return releases.history(self.store, parcels.MODEL, [public_text(self.key.public_key())])

    def bring(self, bundle: str) -> None:
        """A person asks for a retraining, which will make `bundle`."""
        self.runs.bundle = bundle
        wish = inbox.Wish(
            id=inbox.new_id(),
            model=parcels.MODEL,
            kind="train",
            because="a drill",
            by="ann",
            created=self.clock.now().isoformat(),
        )
        assert inbox.send(self.store, wish, self.operator)

    def settle(self, loop: Reconciler, seconds: float = 60) -> None:
        """Step until nothing is under way at this time. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            loop.step()
            pulse = self.journal.pulse(parcels.MODEL)
            if pulse is not None and pulse.settled and dt.datetime.fromisoformat(pulse.at) >= self.clock.now():
                return
            time.sleep(0.02)
        raise TimeoutError(str(self.journal.decisions(parcels.MODEL)[:5]))

    def served(self) -> list[dict[str, Any]]:
        """What each replica says of itself."""
        return [self._client.get(f"http://127.0.0.1:{port}/v2").json() for port in self.ports]

    def until(self, condition: Callable[[], Any], what: str, seconds: float = 60) -> None:
        """Wait for it. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(what)
            time.sleep(0.05)

    def follow(self) -> None:
        """Wait until every replica serves the newest Release with its challenger."""
        number, bundles = self.chain()[-1].number, [arm.bundle for arm in self.chain()[-1].arms]

        def there() -> bool:
            told = self.served()
            arms = [[arm["bundle"] for arm in one["arms"] if arm["state"] == "ready"] for one in told]
            return all(one["release"] == number for one in told) and all(each == bundles for each in arms)

        self.until(there, f"release {number} is served")

    def flush(self) -> None:
        """What was answered stands in the store."""
        flush_all(self.ports, self.token)

    @contextmanager
    def alive(self, loop: Reconciler, speed: float = 1.0) -> Iterator[None]:
        """Time runs (`speed` times as fast as on the wall) and the controller looks every second of it."""
        ending, failures = threading.Event(), list[Exception]()
        base, began = self.clock.now(), time.monotonic()

        def tick() -> None:
            while not ending.wait(TICK):
                self.clock.set(base + dt.timedelta(seconds=speed * (time.monotonic() - began)))

        def control() -> None:
            while not ending.wait(PERIOD / speed):
                try:
                    loop.step()
                except Exception as error:  # noqa: BLE001 - told at the end, on the caller's thread
                    failures.append(error)

        threads = [threading.Thread(target=each, daemon=True) for each in (tick, control)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ending.set()
            for thread in threads:
                thread.join(30)
        if failures:
            raise failures[0]

    def _first_release(self) -> None:
        self.champion = self.maker.champion()
        first = releases.Release(
            model=parcels.MODEL, number=1, champion=self.champion, reason="first", created=START.isoformat()
        )
        assert releases.publish(self.store, first, self.key)

    def _arguments(self) -> dict[str, Any]:
        return {
            "model": parcels.MODEL,
            "store": self.store.url,
            "trusted_keys": [public_text(self.key.public_key())],
            "cache": str(self.folder / "cache"),
            "spool": str(self.folder / "spool"),
            "labels_token_path": str(self.folder / "token"),
            "clock": str(self.folder / "clock"),
            "ports": self.ports,
            "limits": {"drain": 0.5, "deadline": DEADLINE},
        }

    def _start_front(self, port: int) -> subprocess.Popen[bytes]:
        settings = {"port": port, "replica_ports": self.ports, "socket": str(self.folder / "haproxy.sock")}
        path = self.folder / "haproxy.json"
        path.write_text(json.dumps({**settings, "body_limit": 64 << 10, "deadline": DEADLINE, "queue": 256}))
        with (self.folder / "haproxy.log").open("wb") as log:
            front = subprocess.Popen(
                [sys.executable, "-m", "stackyard.serving.haproxy", str(path)], stdout=log, stderr=log
            )

        def ready() -> bool:
            try:
                return self._client.get(f"{self.url}/v2/health/ready").status_code == 200
            except httpx.HTTPError:
                return False

        self.until(ready, "the front answers", 30)
        return front

    def _settings(self, spec: Mapping[str, Any]) -> ControllerSettings:
        return ControllerSettings(
            stack="drill",
            stack_id="0123abcd",
            model=parcels.MODEL,
            store=str(self.folder / "store"),
            database=self.database,
            signing_key=self.folder / "keys" / "release",
            operator_keys=(public_text(self.operator.public_key()),),
            project=dict(spec),
            project_folder=self._code,
            checkout=self.folder,
            runtime=self.folder / "runtime",
            cache=self.folder / "cache-controller",
            log_folder=self.folder / "logs",
            token_path=self.folder / "token",
            node_address="127.0.0.9",
        )


_BY_HAND = {"mode": "off", "daily_limit": 1000}


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
