"""The images that a node starts with: pause, the base, and Ray with what the platform needs, from requirements.lock.

They are made by hand, layer by layer, since no registry can be counted on; the names are `localhost/stackyard/...`.
Once made, they lie in a containerd store in the cache, of which every new node gets a copy made of hard links.

When the project has a platform/Dockerfile, this is where its build belongs: `layers` gives the base as an archive.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

from cluster import archives, binaries, folders, lock, roots, steps
from machine import places, say, venv

_RECIPE = "1"
_INSIDE = folders.HERE / "inside"
_PROJECT = places.CHECKOUT / "platform" / "pyproject.toml"
_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"

_KEPT = 2
"""Another checkout may be at work with another lock."""

PAUSE = "localhost/stackyard/pause:1"
BASE = "localhost/stackyard/base:1"
_PATHS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def ray() -> str:
    """The name of the image with Ray in it: its tag is the lock's version of Ray."""
    found = re.search(r"^ray==(\S+)", places.LOCK.read_text(), re.MULTILINE)
    return f"localhost/stackyard/ray:{found[1] if found else 'unknown'}"


def target() -> Path:
    """Where the store lies once made."""
    made_of = places.digest(
        _RECIPE,
        platform.machine(),
        roots.target("node").name,
        roots.target("base").name,
        lock.read().modules["own"].folder / "pause" / "main.go",
        places.LOCK,
        _PROJECT,
        _INSIDE / "install.sh",
        _INSIDE / "seed.sh",
    )
    return folders.cache() / f"images-{made_of[:16]}"


def made() -> bool:
    """Whether it is there."""
    return target().is_dir()


def make(logs: Path) -> None:
    """Make the store if it is not there yet. Call under `only_one`, as root, with roots and programs made."""
    if made():
        return
    with places.made_whole(target()) as part:
        work = part / "work"
        work.mkdir()
        archive = work / "images.tar"
        archives.write(archive, layers(work, logs))
        command = [str(_INSIDE / "seed.sh"), str(roots.target("node")), str(work / "seed"), str(part / "containerd")]
        apart = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--propagation", "private", "sh"]
        steps.run("taking the images in", [*apart, *command, str(archive)], logs / "make-images.log", 600)
        places.remove(work)
    forget_old()


def forget_old() -> None:
    """Remove all stores but the newest: each is 3 GB. Nodes that run have hard links or copies of their own."""
    stores = sorted(folders.cache().glob("images-*"), key=lambda store: store.stat().st_mtime)
    for old in stores[:-_KEPT]:
        places.remove(old)


def layers(work: Path, logs: Path) -> list[archives.Image]:
    """The images, as folders to pack."""
    pause = work / "pause"
    pause.mkdir()
    program = binaries.target(lock.read().modules["own"]) / "pause"
    (pause / "pause").write_bytes(program.read_bytes())
    (pause / "pause").chmod(0o755)
    base = roots.target("base")
    layer = _install(base, work / "ray", logs)
    plain = {"Env": [f"PATH={_PATHS}", "LANG=C.UTF-8"]}
    user = {
        "Env": [*plain["Env"], "HOME=/srv/ray", "RAY_USAGE_STATS_ENABLED=0", "DO_NOT_TRACK=1"],
        "User": "1000:1000",
        "WorkingDir": "/srv/ray",
    }
    return [
        archives.Image(PAUSE, (pause,), {"Entrypoint": ["/pause"], "User": "65535:65535"}),
        archives.Image(BASE, (base,), {**plain, "Cmd": ["/bin/bash"]}),
        archives.Image(ray(), (base, layer), user),
    ]


def selected(text: str, names: set[str]) -> str:
    """Those packages of a lock, hashes and all, whose names are among `names`."""
    blocks = re.split(r"^(?=\S)", text, flags=re.MULTILINE)
    return "".join(block for block in blocks if _name(block) in names)


def _install(base: Path, work: Path, logs: Path) -> Path:
    """A layer over `base` with the platform's packages, every file checked against the lock's hash."""
    work.mkdir()
    uv, settings = venv.find_uv(), venv.index_settings(os.environ)
    asked = subprocess.run(
        [
            *(uv, "pip", "compile", "--quiet", "--no-annotate", "--no-header", "--no-emit-index-url", str(_PROJECT)),
            *("--constraint", str(places.LOCK), "--python-version", _python(base)),
        ],
        env=settings,
        stdout=subprocess.PIPE,
        text=True,
    )
    if asked.returncode:
        say.stop("uv could not say which packages of requirements.lock the platform needs; its message is above.")
    chosen = selected(places.LOCK.read_text(), {_name(line) for line in asked.stdout.splitlines()})
    (work / "requirements.txt").write_text(chosen)
    store = subprocess.run([uv, "cache", "dir"], env=settings, capture_output=True, text=True).stdout.strip()
    bundle = settings.get("SSL_CERT_FILE") or _AUTHORITIES
    command = [str(_INSIDE / "install.sh"), str(base), str(work), uv, store, str(work / "requirements.txt"), bundle]
    apart = ["unshare", "--mount", "--propagation", "private", "sh"]
    steps.run("installing the platform's packages", [*apart, *command], logs / "make-ray.log", 900, settings)
    return work / "layer"


def _name(requirement: str) -> str:
    return re.split(r"[=\[ <>;]", requirement, maxsplit=1)[0].strip().lower()


def _python(base: Path) -> str:
    """The base's Python, as major.minor."""
    return os.path.basename(os.path.realpath(base / "usr/bin/python3")).replace("python", "") or "3"
