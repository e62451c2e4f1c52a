"""Which version is that, and is it new enough? Programs print their version in many dresses."""

from __future__ import annotations

import re

Version = tuple[int, int, int]


def parse(text: str) -> Version | None:
    """The first x.y or x.y.z in `text`: `go version go1.26.8 linux/amd64`, `v3.259.0`, `uv 0.13.9`. None without one.

    A pre-release (`1.26rc1`, `v3.260.0-alpha`) counts as older than the release it leads to.
    """
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?(-?(?:alpha|beta|rc|dev)\S*)?", text)
    if not found:
        return None
    major, minor, patch = int(found[1]), int(found[2]), int(found[3] or 0)
    return (major, minor, patch - 1) if found[4] else (major, minor, patch)


def at_least(text: str, oldest: str) -> bool:
    """Whether the version in `text` is `oldest` or newer; a text without a version is not."""
    have, need = parse(text), parse(oldest)
    return have is not None and need is not None and have >= need
