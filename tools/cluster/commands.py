"""The commands behind `make cluster`: up (which is also again, and back), down, status, kubectl, load."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from cluster import folders, kwok, node, profiles, status
from cluster.folders import Home
from machine import places, say

_PROFILES: dict[str, ModuleType] = {folders.NODE: node, folders.KWOK: kwok}
ABSENT = 3
"""Exit status of `status` where there is no cluster, or one that does not answer."""


def main(arguments: list[str]) -> NoReturn:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="tools/machine.sh cluster", description=__doc__, allow_abbrev=False)
    parser.add_argument("verb", nargs="?", default="up", choices=("up", "down", "status", "kubectl", "load"))
    parser.add_argument("--profile", choices=folders.PROFILES, help="node: real, root; kwok: fake nodes. Default node")
    parser.add_argument(
        "--addresses", metavar="BLOCK", help="an IPv4 block that nothing here uses, such as 10.91.0.0/16"
    )
    parser.add_argument("--json", action="store_true", help="with status: for programs")
    options, rest = parser.parse_known_args(arguments)
    if rest and options.verb not in ("kubectl", "load"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        sys.exit(_dispatch(options, rest[1:] if rest[:1] == ["--"] else rest))
    except KeyboardInterrupt:
        say.stop("interrupted; run it again to go on from here.", 130)


def _dispatch(options: argparse.Namespace, rest: list[str]) -> int:
    if options.verb == "status":
        return show([options.profile] if options.profile else list(folders.PROFILES), options.json)
    home = folders.home(options.profile or folders.NODE)
    if options.verb == "kubectl":
        return kubectl(home, rest)
    if options.verb == "load":
        return load(home, rest)
    return up(home, options.addresses) if options.verb == "up" else down(home)


def up(home: Home, block: str | None) -> int:
    """Make the cluster, or bring it back, or find it there; then say how to reach it."""
    profile, began = _PROFILES[home.profile], time.monotonic()
    profile.able()
    with places.only_one(folders.cache() / f".{home.profile}-lock", f"at work on the cluster {home.profile}"):
        profile.up(home, block)
    say.line(f"the cluster {home.profile} is there, after {time.monotonic() - began:.0f} s:")
    print(f"export KUBECONFIG={home.kubeconfig}")
    return 0


def down(home: Home) -> int:
    """End the cluster and remove it; what it was made from stays in the cache."""
    if home.folder.exists() and home.folder.stat().st_uid != os.geteuid():
        say.stop(f"{home.folder} belongs to another user: end the cluster as that user, or as root.")
    with places.only_one(folders.cache() / f".{home.profile}-lock", f"at work on the cluster {home.profile}"):
        _PROFILES[home.profile].down(home)
    say.line(f"no cluster {home.profile} any more")
    return 0


def show(names: list[str], as_json: bool) -> int:
    """Say what runs."""
    found = [status.facts(folders.home(name)) for name in names]
    for one in found:
        print(status.as_json(one) if as_json else "\n".join(status.shown(one)))
    return 0 if any(one["running"] for one in found) else ABSENT


def load(home: Home, archives: list[str]) -> int:
    """Give the node images from archives, as `docker save` or `buildah push docker-archive:` writes them."""
    if home.profile != folders.NODE:
        say.stop("only a real node has images: with --profile kwok nothing runs.")
    if not archives:
        say.stop("which archive? `tools/machine.sh cluster load FILE...`, as `docker save` writes it.")
    for name in archives:
        node.load(home, Path(name))
    return 0


def kubectl(home: Home, arguments: list[str]) -> int:
    """Become kubectl, of the cluster's version and as its administrator."""
    if not profiles.record(home):
        say.stop(f"no cluster {home.profile}: `make cluster` makes one.")
    for name in [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy")]:
        del os.environ[name]
    program = str(profiles.kubectl(home))
    sys.stdout.flush()
    os.execv(program, [program, f"--kubeconfig={home.kubeconfig}", *arguments])  # noqa: S606
