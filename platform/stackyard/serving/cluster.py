"""The serving cluster as one supervised process: `python -m stackyard.serving.cluster SETTINGS.json`.

Starts a Ray head of its own, has Serve place the replicas, and ends with the head. It is no Ray driver (a driver
dies a minute after Ray's control store does): it talks to Serve by HTTP. SIGHUP reads the settings again and deploys
them in place; SIGTERM ends everything; after a kill the next start ends what the last one left, then begins afresh.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

from stackyard.serving import deployment, leftovers, ray_head
from stackyard.serving.ray_head import ClusterError
from stackyard.serving.settings import NOTICE_SECONDS, Settings

START_SECONDS = 90.0
WATCH_SECONDS = 1.0
TELL_SECONDS = 5.0
SILENT_SECONDS = 30.0
"""How long the dashboard may fail to answer before Ray is taken for dead."""


class Cluster:
    """One life of the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._settings, self._digest = Settings.read(path), _digest(path)
        self._acknowledged = False
        self._wake = threading.Event()
        self._ending = self._reread = False
        self._head: subprocess.Popen[bytes] | None = None
        self._told, self._told_at = "", 0.0
        self._api = ray_head.Api(self._settings)

    def run(self) -> int:
        """Until SIGTERM (0) or until Ray dies or cannot be deployed to (1)."""
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(name, self._signalled)
        os.environ.setdefault("STACKYARD_STACK_ID", self._settings.stack_id)
        os.environ.setdefault("STACKYARD_PROCESS", "serving")
        try:
            self._keep_logs()
            self._clean()
            self._start()
            self._watch()
            return 0
        except (ClusterError, OSError, ValueError) as error:
            if self._ending:
                return 0
            _say(f"{error}; Ray's logs are in {ray_head.session_logs(self._settings.runtime)}")
            return 1
        finally:
            self._drain()
            self._keep_logs()
            self._clean()

    def _start(self) -> None:
        began = time.monotonic()
        self._head = ray_head.start(self._settings)
        ray_head.wait(self._api.up, self._alive, START_SECONDS, "the dashboard answers")
        self._deploy()
        _say(f"Ray is up and Serve has its orders after {time.monotonic() - began:.1f} s")

    def _deploy(self) -> None:
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                return self._api.put(deployment.document(self._settings))
            except ClusterError:
                if not self._alive() or time.monotonic() > until:
                    raise
                self._wake.wait(0.5)

    def _watch(self) -> None:
        heard = time.monotonic()
        while not self._ending:
            self._wake.wait(WATCH_SECONDS)
            self._wake.clear()
            if self._reread:
                self._reread = False
                self._redeploy()
            if not self._alive():
                if self._ending:
                    return
                raise ClusterError("Ray's head ended")
            if self._api.up():
                heard = time.monotonic()
                self._tell_state()
                self._acknowledge()
            elif time.monotonic() - heard > SILENT_SECONDS:
                raise ClusterError(f"Ray's dashboard has been silent for {SILENT_SECONDS:g} s")

    def _tell_state(self) -> None:
        """Say what Serve says of the application whenever that changes: a failed replica must not be a silent one."""
        if time.monotonic() < self._told_at + TELL_SECONDS:
            return
        self._told_at = time.monotonic()
        with suppress(ClusterError):
            state = ray_head.state(self._api.details())
            if state != self._told:
                self._told = state
                _say(f"Serve: {state}")

    def _redeploy(self) -> None:
        try:
            settings, digest = Settings.read(self._path), _digest(self._path)
            self._api.put(deployment.document(settings))
            self._settings, self._digest, self._acknowledged = settings, digest, False
            _say("deployed the settings anew")
        except (ClusterError, OSError, ValueError) as error:
            _say(f"the new settings are not deployed, the old ones stay: {error}")

    def _acknowledge(self) -> None:
        """Say which settings run, once they do."""
        if self._acknowledged or self._settings.ready_file is None:
            return
        try:
            running = self._api.running()
        except ClusterError:
            return
        if running:
            scratch = self._settings.ready_file.with_suffix(".new")
            scratch.write_text(self._digest)
            scratch.replace(self._settings.ready_file)
            self._acknowledged = True
            _say("all replicas run")

    def _alive(self) -> bool:
        return not self._ending and self._head is not None and self._head.poll() is None

    def _signalled(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._reread = True
        else:
            self._ending = True
        self._wake.set()

    def _keep_logs(self) -> None:
        """Ray's session goes; its logs are what explains a failure, so the last session's stay beside ours."""
        logs, kept = ray_head.session_logs(self._settings.runtime), self._settings.log_folder / "ray-serving"
        if logs.is_dir() and kept.parent.is_dir():  # else the checkout was moved meanwhile: make no second one
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(logs, kept, symlinks=True, ignore_dangling_symlinks=True, dirs_exist_ok=True)

    def _drain(self) -> None:
        """Let replicas finish and log what they hold; afterwards nothing in Ray is worth waiting for."""
        if self._head is not None and self._head.poll() is None:
            self._api.shut_down(self._settings.serving.drain + NOTICE_SECONDS + 3.0)

    def _clean(self) -> None:
        stack_id, process = os.environ["STACKYARD_STACK_ID"], os.environ["STACKYARD_PROCESS"]
        ended = leftovers.sweep(stack_id, process, self._settings.runtime, patience=1.0)
        if self._head is not None:
            self._head.wait(10)
        elif ended:
            _say(f"ended {ended} processes of an earlier life")
        shutil.rmtree(self._settings.runtime, ignore_errors=True)
        if self._settings.ready_file is not None:
            self._settings.ready_file.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _say(text: str) -> None:
    print(f"serving: {text}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stackyard.serving.cluster SETTINGS.json")
    sys.exit(Cluster(Path(sys.argv[1])).run())
