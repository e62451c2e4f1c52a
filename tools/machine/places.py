"""Where things are: the checkout holds its state, the user's cache folder holds what many checkouts may share."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from machine import say

CHECKOUT = Path(__file__).resolve().parents[2]
TOOLS = CHECKOUT / "tools"
VENV = CHECKOUT / ".venv"
STATE = CHECKOUT / ".stackyard"
STACKS = CHECKOUT / "stacks"
LOCK = CHECKOUT / "requirements.lock"
PROVIDER = CHECKOUT / "infra" / "stackyard_infra" / "provider"


def cache() -> Path:
    """The user's cache folder for our tools, as the XDG rules say; a relative XDG_CACHE_HOME counts as absent."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "stackyard"


def digest(*parts: str | bytes | Path) -> str:
    """One digest over texts and files, in order; a missing file counts as empty."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            data = part.read_bytes() if part.exists() else b""
        else:
            data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "big") + data)
    return total.hexdigest()


@contextlib.contextmanager
def only_one(lock: Path, what: str) -> Iterator[None]:
    """Hold the file `lock`; a second process waits. The kernel lets go when the holder dies, however it dies."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say.line(f"waiting for another process that is {what} ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def made_whole(target: Path) -> Iterator[Path]:
    """A folder to fill, renamed to `target` at the end: a killed run leaves no half-made target, only a temp folder.

    Call under `only_one`: leftovers of killed runs are removed here.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}-"
    for leftover in target.parent.glob(prefix + "*"):
        remove(leftover)
    part = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        yield part
        part.chmod(0o755)
        remove(target)
        part.rename(target)
    finally:
        remove(part)


def remove(path: Path) -> None:
    """Remove a file or folder if it is there; Go's module folders are read-only, so make them writable first."""
    if path.is_dir() and not path.is_symlink():
        for root, folders, files in os.walk(path, topdown=False):
            os.chmod(root, 0o700)
            for name in files:
                os.unlink(os.path.join(root, name))
            for name in folders:
                inner = os.path.join(root, name)
                os.unlink(inner) if os.path.islink(inner) else os.rmdir(inner)
        path.rmdir()
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
