"""One serving replica: an HTTP server, a model that follows its Releases, and a prediction log, in one process.

Serve's proxy costs ten times what a prediction does, so requests do not pass it: granian answers on one of a fixed
list of loopback ports, and HAProxy finds the ports that answer. Nothing here knows Ray.
"""

from __future__ import annotations

import asyncio
import fcntl
import http.client
import io
import socket
import threading
import time
from pathlib import Path
from typing import Any

from stackyard.serving.api import Api
from stackyard.serving.arms import ChallengerArm
from stackyard.serving.batching import Batcher, Placed
from stackyard.serving.feedback import Feedback
from stackyard.serving.follower import Follower, open_store
from stackyard.serving.labels import LABELS_FOLDER, LabelLog
from stackyard.serving.metrics import Metrics
from stackyard.serving.model import Model
from stackyard.serving.segments import ROLL_SECONDS
from stackyard.serving.settings import NOTICE_SECONDS, Limits
from stackyard.serving.spool import ARMS_ROLL_SECONDS, PredictionLog
from stackyard.serving.timekeeping import Timekeeper
from stackyard.store.releases import Arm, Release


class NoPortError(Exception):
    """Every port of the list is taken."""


class HttpServer:
    """granian in a thread of its own, on one port."""

    def __init__(self, api: Api, port: int) -> None:
        self.api, self.port = api, port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def start(self) -> None:
        """Serve; returns when the port answers. Raises TimeoutError after 10 s."""
        self._thread.start()
        until = time.monotonic() + 10
        while not self.answers():
            if time.monotonic() > until:
                raise TimeoutError(f"the HTTP server on port {self.port} does not answer")
            time.sleep(0.02)

    def answers(self, timeout: float = 2.0) -> bool:
        """Whether `/v2/health/live` is answered 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", "/v2/health/live")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """Close the port and end the thread."""
        self._loop.call_soon_threadsafe(self._server.stop)
        self._thread.join(5)

    def _run(self) -> None:
        from granian.constants import Interfaces
        from granian.http import HTTP1Settings
        from granian.server.embed import Server

        asyncio.set_event_loop(self._loop)
        self._server = Server(
            self.api,
            address="127.0.0.1",
            port=self.port,
            interface=Interfaces.RSGI,
            websockets=False,
            backlog=1024,
            log_enabled=False,
            http1_settings=HTTP1Settings(header_read_timeout=10_000),
        )
        self._loop.run_until_complete(self._server.serve())


class Replica:
    """Everything of one replica, without Ray: tests start it as it is."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.limits = Limits.model_validate(settings["limits"])
        self.metrics = Metrics()
        name, url, spool = settings["model"], settings["store"], Path(settings["spool"])
        clock, token = (settings.get(key) and Path(settings[key]) for key in ("clock", "labels_token_path"))
        self.now = Timekeeper(clock)
        self.challenger: ChallengerArm | None = None
        self.log = PredictionLog(name, spool, lambda: open_store(url), self.metrics, now=self.now)
        self.labels = LabelLog(name, spool / LABELS_FOLDER, lambda: open_store(url), self.metrics, now=self.now)
        self.batcher = Batcher(self.limits.queue, self.metrics, self.log.put, self.now)
        self.follower = Follower(
            name, url, tuple(settings["trusted_keys"]), Path(settings["cache"]), self.metrics, self._install
        )
        self.follower.told = lambda: {"arms": [arm.status() for arm in [self.challenger] if arm is not None]}
        feedback = Feedback(token, self.labels, self._settled_log)
        self.api = Api(name, self.limits, self.batcher, self.metrics, self.follower.status, feedback=feedback)
        self.metrics.queue.set_function(lambda: self.batcher.held)
        port, self._port_lock = claim_port(settings["ports"], Path(settings["cache"]) / "ports")
        self.server = HttpServer(self.api, port)
        self.log.start()
        self.labels.start()
        self.batcher.start()
        self.server.start()
        self.follower.start()

    def healthy(self) -> bool:
        """Whether the HTTP server answers and the inference thread is not stuck."""
        return self.batcher.alive() and self.server.answers()

    def drain(self) -> None:
        """Stop: fail readiness, let HAProxy notice, finish what is held (at most `drain` seconds), close, log."""
        self.api.draining = True
        self.follower.stop()
        until = time.monotonic() + max(self.limits.drain, NOTICE_SECONDS)
        time.sleep(NOTICE_SECONDS)
        while self.batcher.held and time.monotonic() < until:
            time.sleep(0.02)
        self.server.stop()
        if self.challenger is not None:
            self.challenger.stop()
            self.challenger.join(1.0)
        self.batcher.stop()
        self.log.stop()
        self.labels.stop()
        self._port_lock.close()

    def _install(self, model: Model, release: Release) -> None:
        """Put a Release into place as one value; whoever is no challenger any more is told to end."""
        old, arm = self.challenger, release.arms[0] if release.arms else None
        if arm is None:
            self.challenger = None
        else:
            salt = release.candidate or arm.bundle
            if old is not None and old.suits(arm):
                old.carry_on(arm, salt, model, release.number)
            else:
                self.challenger = self._challenge(arm, salt, model, release.number)
        self.batcher.placed = Placed(model, release.number, self.challenger)
        if old is not None and old is not self.challenger:
            old.stop()
            self.log.roll_soon()  # whoever judges the stage waits for its last rows
        self.log.roll_seconds = ROLL_SECONDS if arm is None else ARMS_ROLL_SECONDS

    def _challenge(self, arm: Arm, salt: str, model: Model, release: int) -> ChallengerArm:
        challenger = ChallengerArm(
            arm,
            salt,
            lambda: self.follower.prepare_apart(arm.bundle),
            self.metrics,
            self.log.put,
            self.now,
            self.batcher.give_back,
            self.limits.deadline,
            model,
            release,
        )
        challenger.start()
        return challenger

    def _settled_log(self, seconds: float) -> int:
        """See all that was answered before in the store; returns rows rolled. Raises OSError or TimeoutError."""
        until = time.monotonic() + seconds
        for wait in (self.batcher.settle, self.challenger and self.challenger.settle, self.batcher.settle):
            if wait is not None and not wait(max(0.0, until - time.monotonic())):
                raise TimeoutError("requests are still being answered")
        left = max(0.1, until - time.monotonic())
        return self.log.roll_now(left) + self.labels.roll_now(left)


def claim_port(ports: list[int], folder: Path) -> tuple[int, io.TextIOWrapper]:
    """A free port of `ports`, locked against other replicas for as long as the returned file is open.

    The lock matters: granian listens with SO_REUSEPORT, so two replicas could share a port without an error.
    Raises NoPortError.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for port in ports:
        lock = (folder / str(port)).open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
            return port, lock
        except OSError:
            lock.close()
    raise NoPortError(f"none of the ports {ports[0]}-{ports[-1]} is free")
