"""Which addresses a node, its pods and its Services take, and whether this machine uses any of them for something else.

A cluster takes one block. A block that overlaps a route, an interface, a VPN's policy or a resolver would cut the
machine off from what is there, so it is refused, naming what is in the way and a block that is free.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
import subprocess
import urllib.parse
from pathlib import Path
from typing import Any, NamedTuple, Union

from machine import say

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

DEFAULT = "10.245.0.0/16"
"""Neither Docker's (172.17-31), nor Kubernetes' own habits (10.96, 10.244, 10.42/43), nor a home router's."""

_OTHERS = ("10.213.0.0/16", "172.29.0.0/16", "10.169.0.0/16", "192.168.192.0/20", "10.91.0.0/16", "100.113.0.0/16")
_WIDEST, _NARROWEST = 12, 20
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_EVERYWHERE = 1
"""A route this wide (0.0.0.0/0, or the two halves that a VPN lays over it) is where all else goes, nobody's range."""


class Addresses(NamedTuple):
    """A block, cut: half for pods, a quarter for Services, its last four for the link between machine and node."""

    block: str
    pods: str
    services: str
    link: int
    machine: str
    node: str


class Taken(NamedTuple):
    """A range that this machine uses, and for what."""

    network: Network
    what: str


def cut(block: str) -> Addresses:
    """Cut a block. ValueError, saying what is wrong, for one that cannot be used."""
    try:
        whole = ipaddress.IPv4Network(block)
    except ValueError as wrong:
        raise ValueError(f"{block} is not an IPv4 block such as {DEFAULT}: {wrong}") from None
    if not _WIDEST <= whole.prefixlen <= _NARROWEST:
        raise ValueError(f"{block} must be between /{_WIDEST} and /{_NARROWEST}")
    if not whole.is_private and not whole.subnet_of(ipaddress.IPv4Network("100.64.0.0/10")):
        raise ValueError(f"{block} belongs to somebody on the Internet: take a private one such as {DEFAULT}")
    pods, rest = whole.subnets(prefixlen_diff=1)
    link = list(rest.subnets(new_prefix=30))[-1]
    machine, node = list(link.hosts())
    services = next(iter(rest.subnets(prefixlen_diff=1)))
    return Addresses(str(whole), str(pods), str(services), link.prefixlen, str(machine), str(node))


def choose(asked: str | None, taken: list[Taken]) -> Addresses:
    """The addresses to use: those asked for, else the default. Ends the command when they are taken."""
    try:
        found = cut(asked or DEFAULT)
    except ValueError as wrong:
        say.stop(f"{wrong}.")
    hits = conflicts(found.block, taken)
    if hits:
        say.stop(refusal(found.block, hits, free(taken)))
    return found


def conflicts(block: str, taken: list[Taken]) -> list[Taken]:
    """What overlaps `block`."""
    whole = ipaddress.ip_network(block)
    return [
        one
        for one in taken
        if one.network.version == whole.version and one.network.prefixlen > _EVERYWHERE and whole.overlaps(one.network)  # type: ignore[arg-type]
    ]


def free(taken: list[Taken]) -> str | None:
    """A block that overlaps nothing, if any of ours does."""
    return next((block for block in (DEFAULT, *_OTHERS) if not conflicts(block, taken)), None)


def refusal(block: str, hits: list[Taken], instead: str | None) -> str:
    """Why not, and what to do."""
    shown = "; ".join(f"{hit.network} ({hit.what})" for hit in hits[:3])
    more = f" and {len(hits) - 3} more" if len(hits) > 3 else ""
    remedy = (
        f"take a free block: make cluster ARGS='--addresses {instead}'"
        if instead
        else "name a private block of your own that is free: make cluster ARGS='--addresses BLOCK'"
    )
    return f"this machine uses addresses of {block} already: {shown}{more}. Nothing was changed; {remedy}."


def of_this_machine() -> list[Taken]:
    """Every range in use here: routes of all tables, interfaces, IPsec, WireGuard, resolvers, proxies."""
    taken = routes(_json(["ip", "-json", "route", "show", "table", "all"]))
    taken += interfaces(_json(["ip", "-json", "address"]))
    taken += policies(_output(["ip", "xfrm", "policy"]))
    if shutil.which("wg"):
        taken += peers(_output(["wg", "show", "all", "allowed-ips"]))
    resolv = Path("/etc/resolv.conf")
    return taken + named(resolv.read_text() if resolv.exists() else "", dict(os.environ))


def routes(rows: list[dict[str, Any]]) -> list[Taken]:
    """From `ip -json route show table all`."""
    found = []
    for row in rows:
        where = f"route by {row['dev']}" if "dev" in row else f"{row.get('type', 'a')} route"
        table = f" in table {row['table']}" if row.get("table") not in (None, "main", "local") else ""
        found += _taken(row.get("dst", ""), where + table)
    return found


def interfaces(rows: list[dict[str, Any]]) -> list[Taken]:
    """From `ip -json address`; an interface that is down counts: it may come up."""
    return [
        one
        for row in rows
        for address in row.get("addr_info", [])
        for one in _taken(f"{address.get('local', '')}/{address.get('prefixlen', 32)}", f"interface {row['ifname']}")
    ]


def policies(text: str) -> list[Taken]:
    """From `ip xfrm policy`: what an IPsec tunnel carries needs no route."""
    ranges = re.findall(r"\bdst (\S+/\d+)", text)
    return [one for found in ranges for one in _taken(found, "IPsec policy")]


def peers(text: str) -> list[Taken]:
    """From `wg show all allowed-ips`: interface, key, ranges."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    return [one for row in rows for found in row[2:] for one in _taken(found, f"WireGuard peer of {row[0]}")]


def named(resolv: str, environ: dict[str, str]) -> list[Taken]:
    """Single addresses that this machine asks: resolvers, and proxies given by number."""
    taken = [
        one
        for found in re.findall(r"^nameserver\s+(\S+)", resolv, re.MULTILINE)
        for one in _taken(found, "name server")
    ]
    for name, value in environ.items():
        if name.lower() in _PROXIES:
            taken += _taken(urllib.parse.urlsplit(value).hostname or "", f"proxy of {name}")
    return taken


def _taken(text: str, what: str) -> list[Taken]:
    """One range, or none for a word such as `default`. Loopback and multicast are nobody's to take."""
    try:
        network = ipaddress.ip_network(text.partition("%")[0], strict=False)
    except ValueError:
        return []
    return [] if network.is_loopback or network.is_multicast else [Taken(network, what)]


def _json(command: list[str]) -> list[dict[str, Any]]:
    text = _output(command)
    return json.loads(text) if text.strip() else []


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and command[1] != "xfrm":
        say.stop(f"`{' '.join(command)}` failed: {done.stderr.strip()}. Which addresses are free cannot be told.")
    return done.stdout if not done.returncode else ""
