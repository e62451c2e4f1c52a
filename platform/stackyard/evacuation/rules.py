"""What the author of a stack wants saved of a workspace: patterns left out, patterns kept, the largest size."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from stackyard.evacuation.settings import SaverSettings


class Rules:
    """Says of a path why it is left out, if it is."""

    def __init__(self, exclude: Iterable[str] = (), include: Iterable[str] = (), largest: int | None = None) -> None:
        self._exclude = [(pattern, _compiled(pattern)) for pattern in exclude]
        self._include = [(pattern, _compiled(pattern)) for pattern in include]
        self._largest = largest

    @classmethod
    def of(cls, settings: SaverSettings) -> Rules:
        """Those of a workspace."""
        return cls(settings.exclude, settings.include, settings.largest)

    @property
    def rescues(self) -> bool:
        """Whether something inside a folder that is left out may be kept, so that one has to look."""
        return bool(self._include)

    def left_out(self, path: bytes, *, size: int | None) -> str | None:
        """The rule by which `path` (relative) is left out; `size` is None for what has none."""
        text = path.decode("utf-8", "surrogateescape")
        if self._include and _first(self._include, text) is not None:
            return None
        if (pattern := self.excluded(path)) is not None:
            return f"exclude {pattern}"
        if self._largest is not None and size is not None and size > self._largest:
            return f"larger than {self._largest} bytes"
        return None

    def excluded(self, path: bytes) -> str | None:
        """The pattern of `exclude` that matches `path` or a folder above it."""
        if not self._exclude:
            return None
        text = path.decode("utf-8", "surrogateescape")
        parts = text.split("/")
        for depth in range(len(parts), 0, -1):
            if (pattern := _first(self._exclude, "/".join(parts[:depth]))) is not None:
                return pattern
        return None


def _first(patterns: list[tuple[str, re.Pattern[str]]], text: str) -> str | None:
    for pattern, compiled in patterns:
        if compiled.match(text if "/" in pattern else text.rpartition("/")[2]):
            return pattern
    return None


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern.strip("/") or pattern))
