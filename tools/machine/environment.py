"""The settings under which Pulumi and everything it starts run: one answer for `make` and for the sourced line.

A stack whose target is `local` is a thing of this checkout: its state, its passphrase and its Pulumi home lie here,
whatever the user has exported or is logged in to. For any other target the user's login and exports are theirs.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

from machine import places, say
from machine.engine import Engine

Changes = dict[str, Optional[str]]
"""Variables to set; None: to unset."""

_LOOPBACK = ("127.0.0.1", "localhost", "127.0.0.0/8")
_QUIET = {"DO_NOT_TRACK": "1", "RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
_DISTURBING = (
    "PULUMI_ACCESS_TOKEN",
    "PULUMI_CONFIG_PASSPHRASE",
    # Would put the user's own modules before those of .venv, in the language host, the provider and every process.
    "PYTHONPATH",
    "PYTHONHOME",
    # Would make the engine look past the language host and provider that we put on PATH.
    "PULUMI_IGNORE_AMBIENT_PLUGINS",
    # Would write the state where `healthy` does not look.
    "PULUMI_DIY_BACKEND_GZIP",
    "PULUMI_SELF_MANAGED_STATE_GZIP",
)


def target(stack: str) -> str:
    """The `target:` of stacks/STACK.yaml. Read without a YAML library: this must work before there is one."""
    file = places.STACKS / f"{stack}.yaml"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", stack):
        say.stop(f"`{stack}` is no name for a stack: letters, digits, `.`, `_` and `-` only.")
    if not file.exists():
        known = sorted(f.stem for f in places.STACKS.glob("*.yaml") if not f.name.startswith("Pulumi."))
        say.stop(f"there is no stacks/{stack}.yaml; here are: {', '.join(known) or 'none'}.")
    found = re.search(r"^target:[ \t]*[\"']?([A-Za-z_-]+)", file.read_text(errors="replace"), re.MULTILINE)
    return found[1] if found else say.stop(f"stacks/{stack}.yaml has no line `target: ...`.")


def changes(stack: str, engine: Engine, environ: Mapping[str, str]) -> Changes:
    """What differs from `environ` while one works on `stack`."""
    result = tooling(engine, environ)
    return {**result, **local(environ)} if target(stack) == "local" else result


def tooling(engine: Engine, environ: Mapping[str, str]) -> Changes:
    """The programs on PATH, and nobody phoning home unless the user said otherwise."""
    ours = [str(places.VENV / "bin"), *engine.folders(), str(places.PROVIDER)]
    rest = [folder for folder in environ.get("PATH", os.defpath).split(os.pathsep) if folder not in ours]
    quiet = {name: environ.get(name, value) for name, value in _QUIET.items()}
    return {"PATH": os.pathsep.join(ours + rest), **quiet}


def local(environ: Mapping[str, str]) -> Changes:
    """A local stack's own Pulumi: state in the checkout, no login, nothing fetched."""
    result: Changes = dict.fromkeys(_DISTURBING)
    proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    exempt = ",".join(dict.fromkeys([*(p.strip() for p in proxy.split(",") if p.strip()), *_LOOPBACK]))
    result.update(
        PULUMI_HOME=str(places.STATE / "pulumi"),
        PULUMI_BACKEND_URL=backend_url(environ),
        PULUMI_CONFIG_PASSPHRASE_FILE=str(passphrase_file()),
        PULUMI_SKIP_UPDATE_CHECK="1",
        # The official language host would otherwise download a plugin for every pulumi-* package of .venv.
        PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION="1",
        PULUMI_DISABLE_REGISTRY_RESOLVE="1",
        NO_PROXY=exempt,
        no_proxy=exempt,
    )
    return result


def backend_url(environ: Mapping[str, str]) -> str:
    """STACKYARD_BACKEND_URL, else the folder in the checkout. The engine percent-decodes a file address."""
    own = "file://" + urllib.parse.quote(str(places.STATE / "backend"))
    return environ.get("STACKYARD_BACKEND_URL") or own


def passphrase_file() -> Path:
    """What encrypts a local stack's secrets. Nobody types it, and only its owner may read it."""
    return places.STATE / "passphrase"


def prepare() -> None:
    """Make the folders and the passphrase of local stacks, unless they are there."""
    for folder in (places.STATE, places.STATE / "pulumi", places.STATE / "backend"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = passphrase_file()
    if file.exists():
        return
    part = file.with_name(f".passphrase-{os.getpid()}")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(secrets.token_urlsafe(32))
    try:
        # A link, not a rename: of two that come at once, both use the one that was first.
        os.link(part, file)
    except FileExistsError:
        pass
    finally:
        part.unlink()


def applied(differences: Changes, environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with the changes made."""
    kept = {name: value for name, value in environ.items() if name not in differences}
    return {**kept, **{name: value for name, value in differences.items() if value is not None}}


def refuse_mixture(stack: str, environ: Mapping[str, str]) -> None:
    """A shell made for the local stack must not carry its backend into another target's."""
    if target(stack) != "local" and environ.get("PULUMI_HOME") == str(places.STATE / "pulumi"):
        say.stop(f"this shell was made for a local stack: `source tools/activate {stack}` first, or use a fresh shell.")


def as_shell(differences: Changes, environ: Mapping[str, str]) -> str:
    """Code for bash and zsh: make the changes, and keep in `_stackyard_undo` (not exported) what takes them back."""
    before = {name: environ.get(name) for name in differences}
    undo = "\n".join(_assignments(before))
    return "\n".join([*_assignments(differences), f"_stackyard_undo={shlex.quote(undo)}"])


def _assignments(values: Changes) -> list[str]:
    return [f"unset {n}" if v is None else f"export {n}={shlex.quote(v)}" for n, v in sorted(values.items())]
