"""A small workspace, a folder as its store, and a way to see whether two trees are the same."""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forking import Outcome, verbs
from stackyard.evacuation.saving import Saved, Saver
from stackyard.evacuation.settings import SaverSettings
from stackyard.store.documents import public_text
from stackyard.store.keys import ensure_signing_key, write_private

TAG = "STACKYARD_TEST_CLUSTER"


def picture(folder: Path | str) -> dict[bytes, Any]:
    """Everything a restore has to bring back: kinds, permissions, times, content, where links lead, shared inodes."""
    top, found, inodes = os.fsencode(folder), {}, {}
    for place, folders, files in os.walk(top):
        for name in [b"", *folders, *files] if place == top else folders + files:
            path = os.path.join(place, name) if name else top
            seen = os.lstat(path)
            relative = os.path.relpath(path, top)
            entry: list[Any] = [stat.S_IFMT(seen.st_mode), seen.st_mtime_ns]
            if stat.S_ISLNK(seen.st_mode):
                entry.append(os.readlink(path))
            else:
                entry.append(stat.S_IMODE(seen.st_mode))
            if stat.S_ISREG(seen.st_mode):
                with open(path, "rb") as file:
                    entry.append(file.read())
                entry.append(inodes.setdefault(seen.st_ino, len(inodes)) if seen.st_nlink > 1 else None)
            found[relative] = entry
    return _renumbered(found)


def _renumbered(found: dict[bytes, list[Any]]) -> dict[bytes, Any]:
    """Inodes by the first of their names, since walks need not agree on an order."""
    groups: dict[int, bytes] = {}
    for path in sorted(found):
        entry = found[path]
        if len(entry) == 5 and entry[4] is not None:
            entry[4] = groups.setdefault(entry[4], path)
    return found


@dataclass
class Lab:
    """A leased cluster's workspace and what is needed to save it."""

    base: Path
    settings: SaverSettings

    @property
    def workspace(self) -> Path:
        return self.settings.workspace

    @property
    def store(self) -> Path:
        return Path(self.settings.store)

    def with_(self, **changes: Any) -> Lab:
        """The same lab, told otherwise."""
        fields = {**self.settings.model_dump(mode="json"), **changes}
        return Lab(self.base, SaverSettings.model_validate(fields))

    def save(self) -> Saved:
        return Saver(self.settings).save()

    def command(self, verb: str, *arguments: str, environment: dict[str, str] | None = None) -> Outcome:
        """Run a verb as a process."""
        return verbs().run(self.settings, verb, *arguments, environment=environment)

    def packs(self) -> list[Path]:
        return sorted(path for path in self.store.glob("workspaces/*/packs/*/*") if path.is_file())


def leased(tmp_path: Path) -> Lab:
    """A lab in `tmp_path`, with an empty workspace."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    key = ensure_signing_key(tmp_path / "receipt.key")
    write_private(tmp_path / "encrypt.key", bytes(range(32)))
    settings = SaverSettings(
        stack="lab",
        stack_id="s1",
        cluster="bench",
        instance="i-1",
        generation=1,
        workspace=workspace,
        store=str(tmp_path / "store"),
        receipt_key=tmp_path / "receipt.key",
        trusted_keys=(public_text(key.public_key()),),
        state=tmp_path / "state",
        processes_tag=f"{TAG}={tmp_path.name}-{secrets.token_hex(4)}",
    )
    return Lab(tmp_path, settings)
