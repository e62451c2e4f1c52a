"""Which code does a process run? Its digest is an input of the process, so that after an upgrade `up` restarts it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import stackyard.spec

PLATFORM = Path(stackyard.spec.__file__).resolve().parents[1]
SHARED = ("spec", "store", "data")


def digest(*areas: str, platform: Path = PLATFORM) -> str:
    """12 hex digits over the sources of these areas of the platform, of what all share, and of its loose modules."""
    inside = [file for area in {*SHARED, *areas} for file in (platform / area).rglob("*.py")]
    return _digest(platform, [*platform.glob("*.py"), *inside])


def digest_of_module(name: str, platform: Path = PLATFORM) -> str:
    """12 hex digits over one module that uses no other (`serving/haproxy.py`)."""
    return _digest(platform, [platform / name])


def _digest(platform: Path, files: list[Path]) -> str:
    total = hashlib.sha256()
    for file in sorted(files):
        content = file.read_bytes()
        total.update(f"{file.relative_to(platform)}\n{len(content)}\n".encode() + content)
    return total.hexdigest()[:12]
