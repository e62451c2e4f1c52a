"""One stack's supervisord, as the provider sees it: start it, ask it, add, stop and remove processes.

Its configuration holds no path of the user's (a space, a percent sign or a semicolon means something there): it
runs in the folder of its configuration, and every path in it is relative. What a process is lies in `launch.json`
beside its files; the configuration is made from those, so the two cannot disagree.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import shlex
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from supervisor.xmlrpc import Faults

from stackyard_infra.provider import tagged
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.site import Site, private_folder, write_private

SUPERVISOR = "supervisor"
PASSED_ON = ("HOME", "USER", "LOGNAME", "PATH", "LANG", "LANGUAGE", "TZ", "SHELL", "LD_LIBRARY_PATH")
PASSED_ON_PREFIXES = ("LC_", "SSL_CERT_", "XDG_CACHE_", "XDG_DATA_", "CUDA_", "NVIDIA_")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
LONGEST_ANSWER = 150  # seconds; stopping a process that drains is the longest question
ENDING = 10  # seconds that a process which was told to end, and was killed, may still be seen
LOOPBACK = ("127.0.0.1", "localhost", "127.0.0.0/8")

_HEAD = """\
[supervisord]
nodaemon = true
silent = true
umask = 077
logfile = ../../logs/supervisor.log
logfile_maxbytes = 5MB
logfile_backups = 2
pidfile = supervisor.pid
childlogdir = ../../logs
nocleanup = true
identifier = {stack_id}

[unix_http_server]
file = {socket}
chmod = 0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
_PROGRAM = """
[program:{name}]
command = ./launch {name}
autostart = true
autorestart = true
startsecs = 2
startretries = 1000
stopwaitsecs = {stop_timeout}
killasgroup = true
redirect_stderr = true
stdout_logfile = ../../logs/{name}.log
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 3
"""


class Unreachable(Exception):
    """No supervisor answers on the socket."""


class Daemon:
    """The supervisord of one site. Methods that ask it raise Unreachable when it is not there."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.folder = site.of_process(SUPERVISOR)

    def pid(self) -> int | None:
        """The supervisor's process id when it answers and is this stack's, else None."""
        try:
            with self._ask() as supervisor:
                return int(supervisor.getPID()) if supervisor.getIdentification() == self.site.stack_id else None
        except Unreachable:
            return None

    def start(self, settings: Mapping[str, str]) -> int:
        """Start supervisord in a session of its own, holding none of our pipes; returns its pid."""
        for folder in (self.site.state, self.site.logs, self.folder, self.site.runtime):
            private_folder(folder)
        self.site.socket.unlink(missing_ok=True)
        self.link()
        self._write_launcher()
        with self._locked():
            self._configure()
        environment = surroundings(os.environ) | dict(settings) | {tagged.PROCESS_TAG: SUPERVISOR}
        command = [sys.executable, "-P", "-m", "stackyard_infra.provider.supervisord", str(self.site.runtime)]
        with open(self.site.log("supervisor-start"), "wb") as output:
            child = subprocess.Popen(
                [*command, "-c", "supervisord.conf", "-n"],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                close_fds=True,
            )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and child.poll() is None:
            if (pid := self.pid()) is not None:
                return pid
            time.sleep(0.05)
        reason = self.site.log("supervisor-start").read_text(errors="replace").strip().splitlines()[-3:]
        raise Refusal(f"The supervisor does not start: {' '.join(reason) or 'it does not answer within 20 s'}.")

    def link(self) -> None:
        """`RUNTIME/venv`: the checkout's Python by a short name, since Ray breaks on a space in its own path."""
        link = self.site.runtime / "venv"
        if not link.is_symlink() or os.readlink(link) != sys.prefix:
            link.unlink(missing_ok=True)
            link.symlink_to(sys.prefix)

    def stop(self) -> None:
        """Ask supervisord to end itself and what it runs, if it is there; `tagged.end` makes sure."""
        with contextlib.suppress(Unreachable), self._ask() as supervisor:
            supervisor.shutdown()

    def states(self) -> dict[str, dict[str, Any]]:
        """What supervisord says of each process: statename, pid, spawnerr, start (epoch seconds)."""
        with self._ask() as supervisor:
            return {info["name"]: info for info in supervisor.getAllProcessInfo()}

    def run(self, name: str) -> None:
        """Run `name` as its launch file says, ending what runs under that name now."""
        self.end(name)
        with self._locked(), self._ask() as supervisor:
            self._configure()
            supervisor.reloadConfig()
            supervisor.addProcessGroup(name)  # autostart does the rest

    def end(self, name: str) -> None:
        """Stop `name` and let supervisord forget it; nothing happens when it does not know it."""
        with self._ask() as supervisor:
            try:
                supervisor.stopProcessGroup(name)
                self._remove(supervisor, name)
            except xmlrpc.client.Fault as fault:
                if "BAD_NAME" not in fault.faultString:
                    raise Refusal(f"The supervisor does not stop {name}: {fault.faultString}.") from None

    def kill(self, name: str, end: Callable[[], object]) -> None:
        """Forget `name`, ended by `end` and not asked to: what was stopped (SIGSTOP) would only wake to write."""
        with self._ask() as supervisor, contextlib.suppress(xmlrpc.client.Fault):
            supervisor.stopProcessGroup(name, False)  # from here on its end is no reason to start it again
            end()
        self.end(name)

    def start_now(self, name: str) -> None:
        """Do not wait for the back-off of a process that is not running."""
        with self._ask() as supervisor, contextlib.suppress(xmlrpc.client.Fault):
            supervisor.startProcess(name, False)

    def signal(self, name: str, signal: str) -> None:
        """Send `signal` (`HUP`) to a running process."""
        with self._ask() as supervisor:
            try:
                supervisor.signalProcess(name, signal)
            except xmlrpc.client.Fault as fault:
                raise Refusal(f"{name} does not take the signal {signal}: {fault.faultString}.") from None

    def forget(self) -> None:
        """Forget every process: each is added again by its own resource."""
        for launch in self.site.etc.glob("*/launch.json"):
            launch.unlink()

    def _remove(self, supervisor: Any, name: str) -> None:
        """Forget what was stopped: a stop does not wait for a process that is ending already."""
        deadline = time.monotonic() + ENDING
        while True:
            try:
                return supervisor.removeProcessGroup(name)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode != Faults.STILL_RUNNING or time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def _configure(self) -> None:
        programs = []
        for launch in sorted(self.site.etc.glob("*/launch.json")):
            plain = json.loads(launch.read_text())
            programs.append(_PROGRAM.format(**plain))
        head = _HEAD.format(stack_id=self.site.stack_id, socket=self.site.socket)
        write_private(self.folder / "supervisord.conf", head + "".join(programs))

    def _write_launcher(self) -> None:
        launcher = self.folder / "launch"
        step = [sys.executable, "-P", "-m", "stackyard_infra.provider.launch"]
        write_private(launcher, f'#!/bin/sh\nexec {shlex.join(step)} "../$1/launch.json"\n')
        launcher.chmod(0o700)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Resources are made side by side, and a killed `up` may still be dying: one hand at a time."""
        with open(self.folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _ask(self) -> Iterator[Any]:
        transport = _UnixTransport(str(self.site.socket))
        proxy = xmlrpc.client.ServerProxy("http://supervisor", transport=transport)
        try:
            yield proxy.supervisor
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise Unreachable(str(error)) from None
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != Faults.SHUTDOWN_STATE:
                raise
            raise Unreachable("it is ending") from None
        finally:
            transport.close()


class _UnixTransport(xmlrpc.client.Transport):
    """XML-RPC over a unix socket, with a limit: a supervisor that hangs must not hang `up`."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        if self._connection[1] is not None:
            return self._connection[1]
        connection = http.client.HTTPConnection("supervisor")
        self._connection = host, connection  # where the base class looks for what to close
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(LONGEST_ANSWER)
        connection.sock.connect(self._path)
        return connection


def surroundings(environment: Mapping[str, str]) -> dict[str, str]:
    """What of the user's environment a stack's processes see: no secret of Pulumi, cloud or shell is among it."""
    result = {
        key: value
        for key, value in environment.items()
        if key in PASSED_ON or key.startswith(PASSED_ON_PREFIXES) or key.upper() in PROXIES
    }
    for key in ("NO_PROXY", "no_proxy"):
        known = [entry for entry in result.get(key, "").split(",") if entry]
        result[key] = ",".join([*known, *(entry for entry in LOOPBACK if entry not in known)])
    return result
