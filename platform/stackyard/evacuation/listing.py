"""The list of everything in a workspace, itself stored in pieces, so that a version costs what changed.

One JSON line an entry, in the order of the walk, cut into segments where a path's hash says so: a change in one folder
leaves the segments of the others as they were. A root names the segments and the extras. Names are UTF-8 with
surrogate escapes, which loses no byte.

Line: `p` path; `k` kind (file, folder, link, again = hard link); `m` mode; `o` [uid, gid]; `t` mtime in ns; `x` xattrs
{name: base64}; file: `s` size and `c` places of its content; link and again: `l` where it leads.
"""

from __future__ import annotations

import json
import zlib
from collections import deque
from typing import Any

from stackyard.evacuation.blobs import Ref
from stackyard.evacuation.errors import DamageError
from stackyard.evacuation.packs import Fetcher, Packer, Piece

FORMAT = 1
_LINES, _BYTES, _ONE_IN = 4096, 1 << 20, 512


def text_of(path: bytes) -> str:
    """A name as a listing holds it."""
    return path.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """And back."""
    return text.encode("utf-8", "surrogateescape")


class Line:
    """An entry whose content may still be on its way."""

    __slots__ = ("_fields", "_pieces")

    def __init__(self, fields: dict[str, Any], pieces: list[Piece] | None = None) -> None:
        self._fields, self._pieces = fields, pieces

    @property
    def ready(self) -> bool:
        """Whether every place is known."""
        return not self._pieces or self._pieces[-1].ref is not None

    def encode(self) -> bytes:
        """The line, without its end. Only once it is ready."""
        if self._pieces is not None:
            self._fields["c"] = [piece.ref.plain() for piece in self._pieces if piece.ref is not None]
        return json.dumps(self._fields, separators=(",", ":")).encode()


class Writer:
    """Collects lines into segments; a line that waits for its pack holds up those behind it."""

    def __init__(self, packer: Packer) -> None:
        self._packer = packer
        self._waiting: deque[tuple[bytes, Line | bytes, Any]] = deque()
        self._lines: list[bytes] = []
        self._bytes = 0
        self._segments: list[Piece] = []

    def add(self, path: bytes, line: Line | bytes, then: Any = None) -> list[tuple[Any, bytes]]:
        """Add an entry. Returns (then, line) for each whose line is now known and `then` not None."""
        self._waiting.append((path, line, then))
        if len(self._waiting) > _LINES and not self._head_ready():
            self._packer.close()
        return self._drain()

    def finish(self, extras: list[dict[str, Any]]) -> tuple[list[tuple[Any, bytes]], Piece]:
        """End the listing: what `add` would have returned of the rest, and the root."""
        self._packer.close()
        done = self._drain()
        self._cut()
        self._packer.close()
        segments = [piece.ref.plain() for piece in self._segments if piece.ref is not None]
        root = self._packer.add(json.dumps({"format": FORMAT, "segments": segments, "extras": extras}).encode())
        return done, root

    def _head_ready(self) -> bool:
        line = self._waiting[0][1]
        return isinstance(line, bytes) or line.ready

    def _drain(self) -> list[tuple[Any, bytes]]:
        done: list[tuple[Any, bytes]] = []
        while self._waiting and self._head_ready():
            path, line, then = self._waiting.popleft()
            data = line if isinstance(line, bytes) else line.encode()
            if then is not None:
                done.append((then, data))
            self._lines.append(data)
            self._bytes += len(data)
            if zlib.crc32(path) % _ONE_IN == 0 or len(self._lines) >= _LINES or self._bytes >= _BYTES:
                self._cut()
        return done

    def _cut(self) -> None:
        if self._lines:
            self._segments.append(self._packer.add(b"\n".join(self._lines)))
        self._lines, self._bytes = [], 0


class Listing:
    """A listing read back: its segments, and what was saved beside the workspace."""

    def __init__(self, fetcher: Fetcher, root: Ref) -> None:
        found = json.loads(fetcher.one(root))
        if found.get("format") != FORMAT:
            raise DamageError(f"a listing of format {found.get('format')!r}: a newer program wrote it, upgrade")
        self.segments = [Ref.load(plain) for plain in found["segments"]]
        self.extras: list[dict[str, Any]] = found["extras"]


def entries_of(segment: bytes) -> list[dict[str, Any]]:
    """The entries of a segment."""
    return [json.loads(line) for line in segment.split(b"\n")]


def refs_of(entry: dict[str, Any]) -> list[Ref]:
    """Where an entry's content lies, in order."""
    return [Ref.load(plain) for plain in entry.get("c", ())]
