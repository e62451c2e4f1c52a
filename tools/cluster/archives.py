"""Writing images as one archive of the kind that `docker save` writes; a layer that images share is in it once."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

_MADE = "2026-01-01T00:00:00Z"
"""Fixed, so that the same layers make the same image."""


class Image(NamedTuple):
    """A name with its tag, folders that become layers from the bottom up, and the image's own settings."""

    name: str
    layers: tuple[Path, ...]
    settings: dict[str, Any]


def write(archive: Path, images: list[Image]) -> None:
    """Pack `images` into the file `archive`. Needs room for every layer twice while it works."""
    packed: dict[Path, tuple[str, Path]] = {}
    for folder in dict.fromkeys(layer for image in images for layer in image.layers):
        packed[folder] = _pack(folder, archive.parent / f"layer-{len(packed)}.tar")
    index = []
    with tarfile.open(archive, "w") as out:
        for digest, file in packed.values():
            out.add(file, f"{digest}.tar")
            file.unlink()
        for image in images:
            digests = [packed[folder][0] for folder in image.layers]
            text = json.dumps(described(digests, image.settings)).encode()
            name = f"{hashlib.sha256(text).hexdigest()}.json"
            _add(out, name, text)
            layers = [f"{digest}.tar" for digest in digests]
            index.append({"Config": name, "RepoTags": [image.name], "Layers": layers})
        _add(out, "manifest.json", json.dumps(index).encode())


def described(digests: list[str], settings: dict[str, Any]) -> dict[str, Any]:
    """An image's configuration, for layers with these sha256 digests."""
    return {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "os": "linux",
        "created": _MADE,
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        "history": [{"created": _MADE, "created_by": "stackyard"} for _ in digests],
    }


def _pack(folder: Path, file: Path) -> tuple[str, Path]:
    _whiteouts(folder)
    command = ["tar", "--numeric-owner", "--sort=name", "-C", str(folder), "-cf", str(file), "."]
    subprocess.run(["nice", "-n", "19", *command], check=True)
    total = hashlib.sha256()
    with file.open("rb") as data:
        while block := data.read(1 << 20):
            total.update(block)
    return total.hexdigest(), file


def _whiteouts(folder: Path) -> None:
    """The kernel marks a deleted file of a layer below by a device 0/0, an image by a file named `.wh.NAME`."""
    for root, _, files in os.walk(folder):
        for name in files:
            path = Path(root, name)
            status = path.lstat()
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                path.unlink()
                (path.parent / f".wh.{name}").touch()


def _add(out: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    out.addfile(entry, io.BytesIO(data))
