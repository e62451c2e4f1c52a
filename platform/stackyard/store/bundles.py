"""Bundles: what a model is, as a content-addressed folder that can be checked before it is trusted.

`bundles/<digest>/manifest.json` lists every file with size and sha256; the manifest's own sha256 is the digest.
Files are plain names of a fixed list of kinds: never a path, a link, or a format that can carry code.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from stackyard.store import layout
from stackyard.store.documents import canonical
from stackyard.store.objects import Store, sha256

KIND, VERSION = "bundle", 1
ALLOWED = re.compile(r"[a-z][a-z0-9_-]{0,40}\.(json|ubj|onnx|safetensors|md|parquet)")
DIGEST = re.compile(r"[0-9a-f]{64}")
LARGEST_FILE = 4 << 30
"""Bytes; a larger model is not one for a replica that keeps several."""


class BundleError(Exception):
    """A bundle that must not be loaded."""


def publish(store: Store, files: dict[str, bytes], facts: dict[str, Any]) -> str:
    """Store `files` and a manifest holding `facts`; returns its digest. Same input, same digest."""
    for name in files:
        _check_name(name)
    listing = {name: {"sha256": sha256(data), "size": len(data)} for name, data in sorted(files.items())}
    manifest = canonical({"kind": KIND, "version": VERSION, "files": listing, **facts})
    digest = sha256(manifest)
    for name, data in files.items():
        store.keep(layout.bundle_file(digest, name), data)
    store.keep(layout.bundle_file(digest, "manifest.json"), manifest)  # last: a manifest means a whole bundle
    return digest


def manifest(store: Store, digest: str) -> dict[str, Any]:
    """The checked manifest of bundle `digest`. Raises BundleError."""
    try:
        return _parse_manifest(store.read(layout.bundle_file(digest, "manifest.json")), digest)
    except KeyError:
        raise BundleError(f"bundle {digest[:12]} is not in the store") from None


def fetch(store: Store, digest: str, cache: Path) -> Path:
    """A local folder with bundle `digest`, every byte checked; served from `cache` when a sound copy is there.

    Raises BundleError for a missing or altered file, a name that is not allowed, or a size that does not match.
    """
    if DIGEST.fullmatch(digest) is None:  # it becomes a path, and what lies there unsound is removed
        raise BundleError(f"{digest[:64]!r} is not the digest of a bundle")
    folder = cache / digest
    if folder.is_dir():
        try:
            verify_folder(folder, digest)
            return folder
        except BundleError:
            shutil.rmtree(folder, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = Path(tempfile.mkdtemp(prefix=".fetch-", dir=cache))
    try:
        try:
            raw = store.read(layout.bundle_file(digest, "manifest.json"))
            listing = _parse_manifest(raw, digest)["files"]
            (scratch / "manifest.json").write_bytes(raw)
            for name, entry in listing.items():
                (scratch / name).write_bytes(_checked(store.read(layout.bundle_file(digest, name)), entry, name))
        except KeyError as error:
            raise BundleError(f"bundle {digest[:12]} lacks {error}") from None
        try:
            os.replace(scratch, folder)
        except OSError:  # a neighbour replica was first: its copy is checked like any other
            verify_folder(folder, digest)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def verify_folder(folder: Path, digest: str) -> dict[str, Any]:
    """Check a local bundle folder byte by byte; returns its manifest. Raises BundleError."""
    found = _parse_manifest(_plain_file(folder / "manifest.json"), digest)
    extra = {entry.name for entry in os.scandir(folder)} - set(found["files"]) - {"manifest.json"}
    if extra:
        raise BundleError(f"bundle {digest[:12]} holds files its manifest does not name: {', '.join(sorted(extra))}")
    for name, entry in found["files"].items():
        _checked(_plain_file(folder / name), entry, name)
    return found


def _parse_manifest(raw: bytes, digest: str) -> dict[str, Any]:
    if sha256(raw) != digest:
        raise BundleError(f"the manifest of bundle {digest[:12]} does not have that digest")
    try:
        found = json.loads(raw)
        known = found["kind"] == KIND and isinstance(found["version"], int) and found["version"] <= VERSION
        listing = {name: (entry["sha256"], int(entry["size"])) for name, entry in found["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"the manifest of bundle {digest[:12]} is malformed: {error}") from None
    if not known:
        raise BundleError(f"bundle {digest[:12]} is of a kind or version this program does not understand")
    for name, (_, size) in listing.items():
        _check_name(name)
        if not 0 <= size <= LARGEST_FILE:
            raise BundleError(f"{name} of bundle {digest[:12]} claims a size of {size} bytes")
    return found


def _check_name(name: str) -> None:
    if ALLOWED.fullmatch(name) is None or name == "manifest.json":
        raise BundleError(f"{name!r} is not a file a bundle may hold")


def _plain_file(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise BundleError(f"{path.name}: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _checked(data: bytes, entry: dict[str, Any], name: str) -> bytes:
    if len(data) != entry["size"] or sha256(data) != entry["sha256"]:
        raise BundleError(f"{name} is not the file that the manifest names")
    return data
