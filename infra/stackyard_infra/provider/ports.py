"""Ports and node addresses of one stack: chosen once by really binding them, then kept.

They lie below the range from which the system gives out ports by itself (else an outgoing connection may sit on one
after a reboot) and above 19999, where Ray's own workers stop. Two stacks start looking at different places. A port
that somebody else has taken meanwhile is chosen anew by the next `up`, and only what uses it restarts.
"""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import psutil

from stackyard_infra.provider import tagged
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.kinds import Kind, Plain, changed
from stackyard_infra.provider.site import Site
from stackyard_infra.provider.values import UNKNOWN

LOWEST = 20_000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


class PortsKind(Kind):
    """Named loopback ports, and a loopback address for each Ray cluster."""

    outputs: ClassVar[tuple[str, ...]] = ("ports", "addresses", "taken")

    def name(self, inputs: Plain) -> str:
        return "ports"

    def create(self, inputs: Plain) -> dict[str, Any]:
        return self._choose({"ports": {}, "addresses": {}, "taken": []}, inputs)

    def read(self, state: Plain) -> dict[str, Any] | None:
        theirs = self._foreign(state)
        if theirs:  # one of ours may have ended between the two looks: only what stays is somebody else's
            time.sleep(0.5)
            theirs &= self._foreign(state)
        return {"taken": sorted(theirs)}

    def drift(self, state: Plain) -> set[str]:
        return {"taken"} if state["taken"] else set()

    def update(self, state: Plain, inputs: Plain) -> dict[str, Any]:
        return self._choose(state, inputs)

    def foresee(self, state: Plain, inputs: Plain) -> dict[str, Any]:
        if state["taken"] or changed(state, inputs):
            return dict.fromkeys(self.outputs, UNKNOWN)
        return super().foresee(state, inputs)

    def _foreign(self, state: Plain) -> set[int]:
        found = _listened_to() & set(state["ports"].values())
        return found - tagged.listening(tagged.find(Site.of(state).stack_id)) if found else found

    def _choose(self, state: Plain, inputs: Plain) -> dict[str, Any]:
        kept = {n: p for n, p in state["ports"].items() if n in inputs["names"] and p not in state["taken"]}
        missing = [name for name in inputs["names"] if name not in kept]
        seed = Site.of(inputs).stack_id
        found = free_ports(len(missing), seed=seed, avoid=set(state["ports"].values()))
        addresses = {n: a for n, a in state["addresses"].items() if n in inputs["clusters"]}
        for name in inputs["clusters"]:
            addresses.setdefault(name, free_address(f"{seed}/{name}", avoid=addresses.values()))
        return {"ports": kept | dict(zip(missing, found, strict=True)), "addresses": addresses, "taken": []}


def free_ports(count: int, *, seed: str, avoid: Iterable[int] = ()) -> list[int]:
    """`count` TCP ports that nothing on this machine listens on. Raises Refusal when there are not as many."""
    below = min(int(EPHEMERAL.read_text().split()[0]), 65_536)
    if below - LOWEST < 1_000:  # someone widened the system's own range: share it
        below = 65_536
    avoided = set(avoid)
    candidates = [port for port in range(LOWEST, below) if port not in avoided]
    start = random.Random(seed).randrange(len(candidates))
    found: list[int] = []
    with contextlib.ExitStack() as held:
        for port in candidates[start:] + candidates[:start]:
            if len(found) == count:
                return found
            probe = held.enter_context(socket.socket())
            try:
                probe.bind(("", port))
            except OSError:
                continue
            found.append(port)
    if len(found) < count:
        raise Refusal(f"There are not {count} free TCP ports between {LOWEST} and {below}: end what holds them.")
    return found


def free_address(seed: str, *, avoid: Iterable[str] = ()) -> str:
    """A `127.0.0.N` on which nothing listens, so that two Ray clusters never share one."""
    used = {connection.laddr.ip for connection in psutil.net_connections("tcp") if connection.laddr} | set(avoid)
    candidates = [f"127.0.0.{n}" for n in range(2, 255) if f"127.0.0.{n}" not in used]
    if not candidates:
        raise Refusal("There is no free address between 127.0.0.2 and 127.0.0.254: end some Ray clusters.")
    return random.Random(seed).choice(candidates)


def _listened_to() -> set[int]:
    listening = (c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
    return {connection.laddr.port for connection in listening if connection.laddr}
