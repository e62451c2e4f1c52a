"""Two Debian trees, made by debootstrap through the machine's own apt: the node's system, and the images' base.

The node runs in its own tree, so that nothing is installed on the machine, and no file of the machine's /etc, /run or
/var is seen or touched. apt's lists, too, are kept in our cache. Any distribution with apt will do.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from cluster import folders, lock, steps
from machine import places, say

_LIMIT_SECONDS = 900.0
_RECIPE = "1"
_PROGRAMS = ("wget", "gpgv")
_KEYRINGS = Path("/usr/share/keyrings")


class Mirror(NamedTuple):
    """Where this machine gets its packages, as its apt says."""

    address: str
    suite: str
    components: tuple[str, ...]
    keyring: str


def target(name: str) -> Path:
    """Where the tree lies once made."""
    packages = lock.read().roots[name]
    release = platform_release()
    made_of = places.digest(_RECIPE, name, platform.machine(), *packages, release.get("VERSION_CODENAME", ""))
    return folders.cache() / f"root-{name}-{made_of[:16]}"


def made(name: str) -> bool:
    """Whether it is there."""
    return target(name).is_dir()


def make(logs: Path) -> None:
    """Make the trees that are not there yet. Call under `only_one`, as root."""
    missing = [name for name in lock.read().roots if not made(name)]
    if not missing:
        return
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        say.stop(
            "the node's system comes from Debian's or Ubuntu's packages, and this machine has no apt: use kind, k3s or "
            "any other cluster instead, and name its kubeconfig in your stack."
        )
    lacking = [name for name in _PROGRAMS if not shutil.which(name)]
    if lacking:
        say.stop(f"debootstrap needs {', '.join(lacking)}: `apt-get install {' '.join(lacking)}` and run this again.")
    apt = folders.cache() / "apt"
    for folder in ("lists/partial", "cache/archives/partial", "debs", "debootstrap"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    steps.run("asking for the list of packages", [*_apt(apt), "update"], logs / "make-apt.log", 300)
    steps.run(
        "fetching debootstrap", [*_apt(apt), "download", "debootstrap"], logs / "make-apt.log", 300, folder=apt / "debs"
    )
    archive = max((apt / "debs").glob("debootstrap_*.deb"))
    subprocess.run(["dpkg-deb", "-x", str(archive), str(apt / "debootstrap")], check=True)
    mirror = find_mirror(_output([*_apt(apt), "indextargets", "--format", FORMAT, "Created-By: Packages"]))
    for name in missing:
        _bootstrap(name, mirror, apt, logs / f"make-root-{name}.log")


FORMAT = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)"
"""What we ask apt of each of its lists."""


def find_mirror(targets: str, release: dict[str, str] | None = None) -> Mirror:
    """The mirror of this very release among apt's lists (lines of `FORMAT`), with all its components."""
    told = platform_release() if release is None else release
    suite = told.get("VERSION_CODENAME", "")
    rows = [line.split("|") for line in targets.splitlines() if line.count("|") == 3]
    fitting = [row for row in rows if row[1] == suite and row[3] in ("Debian", "Ubuntu")]
    if not fitting:
        say.stop(f"apt has no list of {suite or 'this release'} from Debian or Ubuntu: `apt-get update` may say why.")
    address = fitting[0][0]
    components = tuple(dict.fromkeys(row[2] for row in fitting if row[0] == address))
    keyring = _KEYRINGS / f"{fitting[0][3].lower()}-archive-keyring.gpg"
    return Mirror(address, suite, components, str(keyring))


def platform_release() -> dict[str, str]:
    """What /etc/os-release says."""
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip('"') for name, _, value in (line.partition("=") for line in lines)}


def _bootstrap(name: str, mirror: Mirror, apt: Path, log: Path) -> None:
    packages = ",".join(lock.read().roots[name])
    home = apt / "debootstrap" / "usr"
    with places.made_whole(target(name)) as part:
        command = [
            # Its mounts of /proc and /sys stay with it, also when it is killed.
            *("unshare", "--mount", "--propagation", "private"),
            *("sh", str(home / "sbin" / "debootstrap"), "--variant=minbase", f"--include={packages}"),
            *(f"--cache-dir={apt / 'debs'}", f"--keyring={mirror.keyring}"),
            *(f"--components={','.join(mirror.components)}", mirror.suite, str(part), mirror.address),
        ]
        settings = {**os.environ, "DEBOOTSTRAP_DIR": str(home / "share" / "debootstrap"), "LC_ALL": "C"}
        steps.run(f"making the {name}'s Debian tree", command, log, _LIMIT_SECONDS, settings)
        _tidy(part)


def _tidy(tree: Path) -> None:
    """Leave out what nobody reads there: package lists, archives, documentation, and the mirror's address."""
    for below in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
        shutil.rmtree(tree / below, ignore_errors=True)
    for below in ("etc/apt/sources.list", "etc/machine-id", "etc/resolv.conf"):
        (tree / below).unlink(missing_ok=True)
        (tree / below).write_text("")
    if (tree / "usr/bin/python3").exists():
        # As in the official Python images, from which a Dockerfile starts.
        (tree / "usr/bin/python").symlink_to("python3")
        for mark in tree.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            mark.unlink()


def _apt(apt: Path) -> list[str]:
    options = {"Dir::State::lists": apt / "lists", "Dir::Cache": apt / "cache", "APT::Sandbox::User": "root"}
    return ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout
