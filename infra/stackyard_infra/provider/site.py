"""Where one local stack lives: its two folders, and every path inside them, spelled once.

`state` (in the checkout) survives a reboot; `runtime` (`/tmp/sy-<uid>-<stack id>`) holds sockets and Ray sessions,
whose paths must be short, and may vanish. `/tmp` is everybody's, so a runtime folder that is a link, someone
else's or open to others is refused rather than used.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackyard_infra.provider.errors import Refusal

MOUNTS = Path("/proc/self/mountinfo")
"""What is mounted where, as this process sees it (`man 5 proc`): the fifth field is the place, odd bytes in octal."""


@dataclass(frozen=True)
class Site:
    """The folders of one stack; `stack_id` is 8 hex digits."""

    stack: str
    stack_id: str
    state: Path
    runtime: Path

    @classmethod
    def of(cls, properties: Mapping[str, Any]) -> Site:
        """The site that a resource's `site` property names."""
        site = properties["site"]
        return cls(site["stack"], site["stack_id"], _as_it_lies(Path(site["state"])), Path(site["runtime"]))

    @property
    def etc(self) -> Path:
        """What processes are started from; rewritten by every `up`."""
        return self.state / "etc"

    @property
    def logs(self) -> Path:
        """Every log of the stack."""
        return self.state / "logs"

    @property
    def socket(self) -> Path:
        """The supervisor's unix socket."""
        return self.runtime / "supervisor.sock"

    def of_process(self, name: str) -> Path:
        """The private files of one process."""
        return self.etc / name

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self.logs / f"{name}.log"


def _as_it_lies(state: Path) -> Path:
    """The state folder, or where it is now that the checkout was moved with the stack up.

    Pulumi remembers the old place; the engine runs the provider in `infra/` of the checkout as it lies.
    """
    here = Path.cwd().parent.joinpath(*state.parts[-2:])
    signs = ("etc", "ledger.json")
    return here if not (state / "etc").exists() and any((here / name).exists() for name in signs) else state


def private_folder(path: Path) -> Path:
    """Make `path` (0700), or check that it is a folder, ours and closed to others. Raises Refusal."""
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise Refusal(f"The folder {path} cannot be made: {error.strerror}.") from None
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode) or not stat.S_ISDIR(found.st_mode):
        raise Refusal(f"{path} is a link or file where a folder of ours should be: remove it and try again.")
    if found.st_uid != os.getuid():
        raise Refusal(f"{path} belongs to another user (uid {found.st_uid}): have it removed and try again.")
    if found.st_mode & 0o077:
        path.chmod(0o700)
    return path


def write_private(path: Path, content: str) -> None:
    """Write `path` (0600), whole or not at all."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
    scratch.replace(path)


def remove_folder(path: Path) -> None:
    """Remove a folder of ours and all below it; a link is never followed, and what is mounted there is not ours.
    Raises Refusal when something stays."""
    if path.is_symlink():
        raise Refusal(f"{path} is a link that something else put there: remove it and try again.")
    refuse_mounted(path)
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise Refusal(f"{path} cannot be removed: {error}.") from None


def refuse_mounted(path: Path) -> None:
    """Raises Refusal where something is mounted at or below `path`: to remove it would empty another disk."""
    place = path.resolve()
    points = (line.split(" ")[4] for line in MOUNTS.read_text(errors="surrogateescape").splitlines())
    for point in points:
        mounted = Path(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), point))
        if mounted.is_relative_to(place):
            raise Refusal(f"{mounted} is another disk, mounted there: unmount it (umount {mounted}) and try again.")
