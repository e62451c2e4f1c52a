"""The project's Python environment: exactly the lock, every file checked against its hash, plus our two packages.

uv makes it: the one on PATH, else one fetched into the user's cache (`pip install --target` works where a
distribution forbids a plain `pip install`). A run killed in the middle leaves no stamp, so the next one starts over.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from machine import places, say, versions

PYTHONS = ">=3.11,<3.14"
"""What the lock covers."""

OLDEST_UV = "0.5.0"
"""First uv with `pip sync --require-hashes` and UV_DEFAULT_INDEX."""

_STAMP = places.VENV / ".stackyard-stamp.json"


def wanted() -> dict[str, str]:
    """What .venv must match: the lock, our packages' descriptions, and its path, which every script in it carries."""
    descriptions = [places.CHECKOUT / room / "pyproject.toml" for room in ("platform", "infra")]
    return {
        "lock": places.digest(places.LOCK),
        "ours": places.digest(str(places.CHECKOUT), *descriptions),
        "path": str(places.VENV),
    }


def ready() -> bool:
    """Whether .venv is complete and current."""
    stamp = _stamp()
    # A stamp of an earlier form says less.
    current = bool(stamp) and stamp.items() <= wanted().items()
    return current and (places.VENV / "bin" / "python").exists()


def make() -> None:
    """Bring .venv to the lock. Call under `only_one`."""
    if ready():
        return
    uv, environment, had = find_uv(), index_settings(os.environ), _stamp()
    need = wanted()
    with contextlib.suppress(FileNotFoundError):
        _STAMP.unlink()
    moved = had.get("path", need["path"]) != need["path"]
    if not had or moved or not _runs():
        _uv(uv, environment, "venv", "--quiet", "--clear", "--python", PYTHONS, str(places.VENV))
        had = {}
    if had.get("lock") != need["lock"]:
        progress = say.Progress("installing the Python packages of requirements.lock")
        _uv(uv, environment, "pip", "sync", "--quiet", "--require-hashes", str(places.LOCK))
        progress.done()
    # The lock holds the build backend, so our own packages need nothing from the network.
    # Relative: uv reads a requirement, in which a `#` of the checkout's path would mean something.
    ours = ["-e", "./platform", "-e", "./infra"]
    _uv(uv, environment, "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", *ours)
    _STAMP.write_text(json.dumps(need))


def lock() -> int:
    """Resolve requirements.in into the hashed lock, without a registry's address in it."""
    options = "--universal --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11"
    ours = ["--no-emit-package", "stackyard", "--no-emit-package", "stackyard-infra"]
    command = [
        find_uv(),
        "pip",
        "compile",
        *options.split(),
        "requirements.in",
        "-o",
        "requirements.lock",
        *ours,
    ]
    # uv prints the whole result as well; the file is enough.
    done = subprocess.run(command, cwd=places.CHECKOUT, env=index_settings(os.environ), stdout=subprocess.DEVNULL)
    return done.returncode


def find_uv() -> str:
    """Path of a uv that we can use."""
    found = shutil.which("uv")
    if found and versions.at_least(_output([found, "--version"]), OLDEST_UV):
        return found
    ours = places.cache() / "uv-boot"
    with places.only_one(places.cache() / ".uv-lock", "fetching uv"):
        if not (ours / "bin" / "uv").exists():
            _fetch_uv(ours)
    return str(ours / "bin" / "uv")


def index_settings(environ: dict[str, str] | os._Environ[str]) -> dict[str, str]:
    """The environment for uv. uv does not read pip's settings: where a user has only those, carry the index over."""
    result = dict(environ)
    result["UV_PROJECT_ENVIRONMENT"] = result["VIRTUAL_ENV"] = str(places.VENV)
    files = [Path(p) for p in ("~/.config/uv/uv.toml", "/etc/uv/uv.toml")]
    own = [name for name in result if name in ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_CONFIG_FILE")]
    if own or any(file.expanduser().exists() for file in files):
        return result
    pip = _pip_settings(result)
    for ours, theirs in (("index-url", "UV_DEFAULT_INDEX"), ("extra-index-url", "UV_INDEX")):
        if pip.get(ours):
            result[theirs] = " ".join(pip[ours].split())
    return result


def _pip_settings(environ: dict[str, str]) -> dict[str, str]:
    """pip's index settings: its files as pip itself reads them, then PIP_* variables."""
    found = {}
    for raw in _output([sys.executable, "-m", "pip", "config", "list"]).splitlines():
        name, _, value = raw.partition("=")
        section, _, key = name.partition(".")
        if section in ("global", "install", ":env:"):
            found[key] = value.strip().strip("'\"").replace("\\n", " ")
    for key in ("index-url", "extra-index-url"):
        variable = "PIP_" + key.upper().replace("-", "_")
        if environ.get(variable):
            found[key] = environ[variable]
    return found


def _fetch_uv(target: Path) -> None:
    pythons = _pythons_with_pip()
    if not pythons:
        say.stop("no uv on PATH and no Python with pip to fetch it: install uv, or the package python3-pip.")
    say.line("fetching uv into the cache")
    with places.made_whole(target) as part:
        command = [
            pythons[0],
            "-m",
            "pip",
            "install",
            "--quiet",
            "--target",
            str(part),
            f"uv>={OLDEST_UV}",
        ]
        if subprocess.run(command).returncode or not (part / "bin" / "uv").exists():
            say.stop("pip could not fetch uv; its message is above. Install uv yourself and run this again.")


def _pythons_with_pip() -> list[str]:
    candidates = [
        sys.executable,
        *(shutil.which(name) or "" for name in ("python3", "python")),
        "/usr/bin/python3",
    ]
    unique = [p for p in dict.fromkeys(candidates) if p and os.path.exists(p)]
    return [p for p in unique if _output([p, "-m", "pip", "--version"])]


def _uv(uv: str, environment: dict[str, str], *arguments: str) -> None:
    status = subprocess.run([uv, *arguments], cwd=places.CHECKOUT, env=environment).returncode
    if status:
        say.stop(f"`uv {' '.join(arguments[:2])}` failed with status {status}; its message is above.")


def _runs() -> bool:
    python = places.VENV / "bin" / "python"
    return python.exists() and _output([str(python), "-c", "print('yes')"]).strip() == "yes"


def _stamp() -> dict[str, str]:
    try:
        return json.loads(_STAMP.read_text())
    except (OSError, ValueError):
        return {}


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    except OSError:
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""
