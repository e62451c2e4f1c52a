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
from stackyard.serving.batching import Batcher
from stackyard.serving.follower import Follower, open_store
from stackyard.serving.metrics import Metrics
from stackyard.serving.settings import NOTICE_SECONDS, Limits
from stackyard.serving.spool import PredictionLog


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
        name, url = settings["model"], settings["store"]
        self.log = PredictionLog(name, Path(settings["spool"]), lambda: open_store(url), self.metrics)
        self.batcher = Batcher(self.limits.queue, self.metrics, self.log.put)
        self.follower = Follower(
            name, url, tuple(settings["trusted_keys"]), Path(settings["cache"]), self.metrics, self._install
        )
        self.api = Api(name, self.limits, self.batcher, self.metrics, self.follower.status)
        self.metrics.queue.set_function(lambda: self.batcher.held)
        port, self._port_lock = claim_port(settings["ports"], Path(settings["cache"]) / "ports")
        self.server = HttpServer(self.api, port)
        self.log.start()
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
        self.batcher.stop()
        self.log.stop()
        self._port_lock.close()

    def _install(self, model: Any) -> None:
        self.batcher.model = model


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
