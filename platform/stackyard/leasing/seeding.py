"""`python -m stackyard.leasing.seeding SETTINGS.json`: the project's code and data for a workspace that was never used.

They are made beside the workspace and moved into it under the saver's lock, and only while the cluster is open for the
first time and nothing at all lies in its workspace: nothing is ever overwritten, nothing is written after a seal.
Killed anywhere, the next run begins anew or finishes the move. `seeded.json` says what was put there, so that it
happens once, and so that a restore may take away what nobody touched.

Exit codes: 0 done, or nothing to do; 1 it failed, and may be tried again: the last line of the log says why.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from stackyard.data.errors import DataError
from stackyard.data.handing_out import hand_out
from stackyard.evacuation import evacuating
from stackyard.evacuation.cache import locked
from stackyard.evacuation.errors import SettingsError
from stackyard.evacuation.freezing import write_whole
from stackyard.evacuation.settings import SaverSettings, read
from stackyard.spec import plain
from stackyard.spec.models import ProjectSpec

MARK, READY = "seeded.json", "ready.json"
_NICE = 10


class SeedingSettings(BaseModel):
    """What one run is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cluster: Path
    """The folder of the cluster."""
    project: dict[str, Any]
    """The project spec in plain form; `serving` may be absent."""
    project_folder: Path
    """Where the project's code lies."""


def wanted(folder: Path) -> bool:
    """Whether the cluster in `folder` is open for the first time, asks for code and data, and was given none yet."""
    lease, record = _object(folder / "lease.json"), _object(folder / "instance.json")
    first = record.get("generation") == 1 and record.get("sealed") is False
    return bool(lease.get("data")) and first and not any((folder / n).exists() for n in (MARK, "suspended.json"))


def seed(settings: SeedingSettings) -> bool:
    """Put code and data into the workspace. Returns whether it has them now. Raises DataError, OSError."""
    folder = settings.cluster
    saver, scratch = read(folder / "evacuation.json"), folder / "seeding"
    with locked(saver.state, "seeding.lock"):
        with locked(saver.state):
            if not _free(folder, saver, scratch):
                return False
        if not (scratch / READY).exists():
            _make(settings, scratch)
        with locked(saver.state):
            if not _free(folder, saver, scratch):
                return False
            _move(folder, saver, scratch)
    return True


def _free(folder: Path, saver: SaverSettings, scratch: Path) -> bool:
    """Whether nobody was faster; where somebody was, that is noted. Take the saver's lock around it."""
    if not wanted(folder) or evacuating.sealed(saver) is not None:
        return False
    ours = _object(scratch / READY).get("tops", [])
    with os.scandir(saver.workspace) as entries:
        taken = any(each.name not in ours or (scratch / "files" / each.name).exists() for each in entries)
    if taken:
        _mark(folder, [])
        shutil.rmtree(scratch, ignore_errors=True)
    return not taken


def _make(settings: SeedingSettings, scratch: Path) -> None:
    shutil.rmtree(scratch, ignore_errors=True)
    files = scratch / "files"
    files.mkdir(parents=True, mode=0o700)
    project = plain.load(ProjectSpec, settings.project)
    hand_out(project, settings.project_folder, files)
    tops = sorted(each.name for each in files.iterdir())
    write_whole(scratch / READY, json.dumps({"tops": tops, "entries": _entries(files)}).encode())


def _move(folder: Path, saver: SaverSettings, scratch: Path) -> None:
    told = _object(scratch / READY)
    for name in told["tops"]:
        if (scratch / "files" / name).exists():
            (scratch / "files" / name).rename(saver.workspace / name)
    _mark(folder, told["entries"])
    shutil.rmtree(scratch, ignore_errors=True)


def _mark(folder: Path, entries: list[Any]) -> None:
    write_whole(folder / MARK, json.dumps({"version": 1, "entries": entries}).encode())


def _entries(files: Path) -> list[list[str | int]]:
    found: list[list[str | int]] = []
    for path in sorted(each for each in files.rglob("*") if each.is_file()):
        seen = path.stat()
        found.append([str(path.relative_to(files)), seen.st_size, seen.st_mtime_ns])
    return found


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def main(path: str) -> int:
    """One run."""
    os.nice(_NICE)
    try:
        seed(SeedingSettings.model_validate_json(Path(path).read_bytes()))
    except (DataError, SettingsError, OSError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
