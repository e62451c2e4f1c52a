"""Where a training and whoever is about to stop it meet: a folder of small files beside the workspace.

    TRAININGS/request.json        every training is asked for a checkpoint: {"version": 1, "id", "at"}
             /<pid>-<random>.json one for each training that runs: what it is called, how far it is, what it answered

Neither side knows the other: a training announces itself and looks for a request between two steps, and whoever stops
processes writes the request and waits, for a while, until each that lives has answered. Who answered stands still while
the request stands, a minute at the most, so that being stopped then costs no step. It lies outside the workspace,
so that looking at it changes nothing that is saved. It is here because this is where both may look (`training` and
`evacuation` import nothing of one another), and it is no document of an author's, so not in `spec`.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VARIABLE = "STACKYARD_CHECKPOINT_REQUESTS"
"""The folder, where it does not lie beside the workspace."""
WORKSPACE = "STACKYARD_WORKSPACE"
VERSION = 1
_SILENT = 300.0
"""Seconds after which a training of another machine, of which nothing was heard since, counts as gone."""


@dataclass(frozen=True)
class Announced:
    """A training that runs."""

    name: str
    pid: int
    start: int
    """Clock ticks of its start after the machine's own: a pid is given again, a pid with a start is not."""
    where: str
    """Machine and pid namespace in which `pid` counts."""
    began: int
    """The step that it went on from."""
    step: int
    """Steps that are done."""
    saved: int
    """The step of its newest checkpoint."""
    answered: str = ""
    """The newest request for which it wrote a checkpoint."""


def folder_of(workspace: Path) -> Path:
    """The folder of the trainings of `workspace`."""
    return workspace.parent / "trainings"


def found_by(environment: Mapping[str, str]) -> Path | None:
    """The folder that a process' environment names; None outside of a leased cluster."""
    if environment.get(VARIABLE):
        return Path(environment[VARIABLE])
    workspace = environment.get(WORKSPACE)
    return folder_of(Path(workspace)) if workspace else None


def place(folder: Path) -> Path:
    """Where this process announces itself."""
    return folder / f"{os.getpid()}-{secrets.token_hex(4)}.json"


def here(name: str, began: int) -> Announced:
    """This process, which goes on from step `began`."""
    seen = _seen(os.getpid())
    return Announced(name, os.getpid(), 0 if seen is None else seen[1], _where(), began, began, began)


def announce(path: Path, training: Announced) -> None:
    """Write, or replace, what `path` says."""
    _write(path, {"version": VERSION, **asdict(training)})


def announced(folder: Path) -> list[tuple[Path, Announced]]:
    """Every training that lives, in the order of their files; those that died are taken out."""
    found = []
    for path in sorted(folder.glob("*-*.json")):
        if (training := _read(path)) is None:
            continue
        if _lives(training, path):
            found.append((path, training))
        else:
            path.unlink(missing_ok=True)
    return found


def said(folder: Path) -> list[Announced]:
    """What every training said last, also of those that are dead and were not yet taken out."""
    return [found for path in sorted(folder.glob("*-*.json")) if (found := _read(path)) is not None]


def lives(training: Announced) -> bool:
    """Whether its process is there; one of another machine counts as there."""
    if not is_here(training):
        return True
    seen = _seen(training.pid)
    return seen is not None and seen[0] not in "ZXx" and seen[1] == training.start


def is_here(training: Announced) -> bool:
    """Whether its pid is one of this machine's since it was started; else it says nothing of the processes here."""
    return training.where == _where()


def stands(training: Announced) -> bool:
    """Whether it was stopped (SIGSTOP), so that it cannot answer before it is let go."""
    seen = _seen(training.pid) if is_here(training) else None
    return seen is not None and seen[0] in "Tt"


def request(folder: Path) -> str:
    """Ask every training for a checkpoint. Returns the request's id."""
    asked = secrets.token_hex(8)
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    _write(folder / "request.json", {"version": VERSION, "id": asked, "at": now})
    return asked


def requested(folder: Path) -> str | None:
    """The id of the request that stands; None when nobody asks."""
    found = _json(folder / "request.json")
    return str(found["id"]) if found and found.get("id") else None


def withdraw(folder: Path) -> None:
    """Ask no longer."""
    (folder / "request.json").unlink(missing_ok=True)


def _write(path: Path, told: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(json.dumps(told))
    scratch.replace(path)


def _read(path: Path) -> Announced | None:
    """None for what is gone, or not understood."""
    found = _json(path)
    kinds = {name: str if field.type == "str" else int for name, field in Announced.__dataclass_fields__.items()}
    told = {name: value for name, value in (found or {}).items() if name in kinds}
    try:  # anybody may write there, and nothing of it may stop who reads it
        return Announced(**told) if all(type(value) is kinds[name] for name, value in told.items()) else None
    except TypeError:
        return None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _lives(training: Announced, path: Path) -> bool:
    if is_here(training):
        return lives(training)
    try:
        return time.time() - path.stat().st_mtime < _SILENT
    except OSError:
        return False


def _seen(pid: int) -> tuple[str, int] | None:
    """State and start of a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return (fields[0].decode(), int(fields[19])) if len(fields) > 19 else None


def _where() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"
