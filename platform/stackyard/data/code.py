"""The project's code, frozen: what was trained is what answers, whatever the checkout says later.

An archive holds sources only, is byte for byte the same for the same sources, and is checked before it is unpacked.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from stackyard.data.errors import DataError
from stackyard.data.loading import load
from stackyard.spec.problems import shown_file
from stackyard.store import layout
from stackyard.store.objects import DigestMismatchError, Store

__all__ = ["CodeError", "archive", "load", "publish", "unpack"]

SOURCES = frozenset({".py", ".yaml", ".yml", ".json", ".sql", ".toml", ".txt"})
LARGEST_SOURCE = 1 << 20
"""A larger Python file is refused; a larger file of another kind is data and left out."""
LARGEST_ARCHIVE = 32 << 20
_TIME = (1980, 1, 1, 0, 0, 0)  # the oldest a zip can say
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+ -]{0,120}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SKIPPED = frozenset({"__pycache__", "node_modules", "venv"})


class CodeError(DataError):
    """Code that cannot be frozen, or an archive that must not be unpacked."""


def archive(project_folder: Path) -> tuple[bytes, str]:
    """A zip of the folder's sources and its sha256. Hidden files, caches and data are left out.

    Stored, not compressed: compressed bytes differ between versions of zlib. Raises CodeError for a symbolic
    link, an odd name, a Python file past LARGEST_SOURCE, or no Python file at all.
    """
    names = sorted(_sources(project_folder, PurePosixPath()))
    if not any(name.endswith(".py") for name in names):
        raise CodeError(f"{shown_file(project_folder)}: no Python file, so no code to freeze")
    out = io.BytesIO()
    total = 0
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as file:
        for name in names:
            data = _plain(project_folder / name)
            total += len(data)
            if total > LARGEST_ARCHIVE:
                raise CodeError(f"{shown_file(project_folder)}: more than {LARGEST_ARCHIVE >> 20} MiB of sources")
            entry = zipfile.ZipInfo(name, _TIME)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.create_system = 3
            file.writestr(entry, data)
    found = out.getvalue()
    return found, hashlib.sha256(found).hexdigest()


def publish(store: Store, project_folder: Path) -> str:
    """Freeze the folder's sources into the store; returns the archive's digest."""
    data, digest = archive(project_folder)
    store.keep(layout.code_archive(digest), data)
    return digest


def unpack(store: Store, digest: str, cache: Path) -> Path:
    """A folder with the code of `digest`, checked file by file; made in `cache` when it is not there or altered.

    The archive is kept beside it, so a later call needs no store. Raises CodeError.
    """
    if _DIGEST.fullmatch(digest) is None:  # it becomes a path, and what lies there unsound is removed
        raise CodeError(f"{digest[:64]!r} is not the digest of a code archive")
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    kept, folder = cache / f"{digest}.zip", cache / digest
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # replicas start together; none may move what another imports from
        data = _kept(kept, digest) or _fetched(store, digest)
        files = _files(data, digest)
        if not _same(folder, files):
            _extract(files, folder)
        if not kept.exists():
            kept.with_suffix(".new").write_bytes(data)
            os.replace(kept.with_suffix(".new"), kept)
    return folder


def _extract(files: dict[str, bytes], folder: Path) -> None:
    """Write `files` and put them in the place of `folder`, whole."""
    scratch = Path(tempfile.mkdtemp(prefix=".code-", dir=folder.parent))
    try:
        for name, content in files.items():
            target = scratch / "new" / name
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            target.write_bytes(content)
        if folder.exists() or folder.is_symlink():
            os.replace(folder, scratch / "old")
        os.replace(scratch / "new", folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _sources(root: Path, below: PurePosixPath) -> list[str]:
    found: list[str] = []
    with os.scandir(root / below) as entries:
        for entry in entries:
            inner = below / entry.name
            source = PurePosixPath(entry.name).suffix in SOURCES
            if entry.name.startswith(".") or entry.name in _SKIPPED or entry.name.endswith(".egg-info"):
                continue
            if entry.is_symlink():
                if source or entry.is_dir():
                    raise CodeError(f"{shown_file(root / inner)}: a symbolic link cannot be frozen; copy what it names")
            elif entry.is_dir():
                found += _sources(root, inner)
            elif source and entry.is_file() and _fits(root / inner, entry.stat().st_size):
                found.append(_checked_name(root, inner))
    return found


def _fits(path: Path, size: int) -> bool:
    if size > LARGEST_SOURCE and path.suffix == ".py":
        raise CodeError(f"{shown_file(path)}: {size} bytes; a Python file may have {LARGEST_SOURCE}")
    return size <= LARGEST_SOURCE


def _checked_name(root: Path, name: PurePosixPath) -> str:
    if not all(_SEGMENT.fullmatch(part) for part in name.parts):
        raise CodeError(f"{shown_file(root / name)}: rename it to letters, digits and _ . + -")
    return str(name)


def _plain(path: Path) -> bytes:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        return file.read(LARGEST_SOURCE + 1)


def _kept(path: Path, digest: str) -> bytes | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(data).hexdigest() == digest:
        return data
    path.unlink()
    return None


def _fetched(store: Store, digest: str) -> bytes:
    try:
        return store.read(layout.code_archive(digest), digest=digest)
    except KeyError:
        raise CodeError(f"the code archive {digest[:12]} is not in the store") from None
    except DigestMismatchError:
        raise CodeError(f"the code archive {digest[:12]} was altered in the store") from None


def _files(data: bytes, digest: str) -> dict[str, bytes]:
    """Names and contents; refuses whatever `archive` would not have written."""
    found: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            if sum(entry.file_size for entry in file.infolist()) > LARGEST_ARCHIVE:
                raise CodeError(f"the code archive {digest[:12]} unpacks to more than {LARGEST_ARCHIVE >> 20} MiB")
            for entry in file.infolist():
                name, mode = entry.filename, entry.external_attr >> 16
                plain = stat.S_IFMT(mode) == stat.S_IFREG and entry.compress_type == zipfile.ZIP_STORED
                sound = all(_SEGMENT.fullmatch(part) for part in name.split("/"))
                if not plain or not sound or name in found or PurePosixPath(name).suffix not in SOURCES:
                    raise CodeError(f"the code archive {digest[:12]} holds {name!r}, which it may not")
                found[name] = file.read(entry)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
        raise CodeError(f"the code archive {digest[:12]} cannot be read: {error}") from None
    return found


def _same(folder: Path, files: dict[str, bytes]) -> bool:
    """Whether `folder` holds these files and nothing else, no links among them."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    seen: set[str] = set()
    for here, folders, names in os.walk(folder):
        if any(os.path.islink(os.path.join(here, name)) for name in (*folders, *names)):
            return False
        for name in names:
            path = Path(here, name)
            inner = str(PurePosixPath(path.relative_to(folder)))
            if files.get(inner) != path.read_bytes():
                return False
            seen.add(inner)
    return seen == set(files)
