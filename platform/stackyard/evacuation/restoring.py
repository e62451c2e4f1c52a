"""A version brought back as it was: content, permissions, times, links of both kinds, names as raw bytes.

It is filled in beside its place and moved there at the end, so a target is whole or not there; a restore that was
killed is begun anew. What is damaged in the store is left out and told, everything else is restored.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stackyard.evacuation import failpoints
from stackyard.evacuation.blobs import Coder
from stackyard.evacuation.errors import DamageError, EvacuationError
from stackyard.evacuation.listing import Listing, bytes_of, entries_of, refs_of
from stackyard.evacuation.packs import Fetcher
from stackyard.evacuation.settings import SaverSettings
from stackyard.evacuation.verifying import fitting
from stackyard.evacuation.versions import Found
from stackyard.store.objects import Store

_TOGETHER = 16 << 20
"""Bytes of small files fetched together, and of a large one at a time."""


@dataclass
class Restored:
    """What came back, and what did not."""

    found: Found
    target: Path
    entries: int = 0
    size: int = 0
    """Bytes of the files' content."""
    damaged: list[tuple[bytes, str]] = field(default_factory=list[tuple[bytes, str]])
    """Not restored."""
    lesser: list[tuple[bytes, str]] = field(default_factory=list[tuple[bytes, str]])
    """Restored, but without something that this machine or user does not allow (an owner, an attribute)."""


def restore(
    settings: SaverSettings, store: Store, coder: Coder, found: Found, target: Path, extras: Path | None = None,
    told: Callable[[Restored], None] = lambda _: None,
) -> Restored:  # fmt: skip
    """Bring `found` to `target`, an empty or absent folder. Raises EvacuationError, OSError.

    `extras`: a folder for what was saved beside the workspace; None leaves that in the store. `told` is called now and
    then with what is done so far.
    """
    fitting(coder, found)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise EvacuationError(f"{target} is not an empty folder: nothing is ever restored over something else")
    target.parent.mkdir(parents=True, exist_ok=True)
    inside = os.path.ismount(target)  # nothing can be moved onto a mount point
    scratch = target if inside else target.with_name(f".{target.name}.restoring")
    if not inside:
        remove(scratch)
        scratch.mkdir(mode=0o700)
    failpoints.hit("restore-begun")
    fetcher = Fetcher(store, settings.cluster, coder)
    listing, result = Listing(fetcher, found.version.root_ref), Restored(found, target)
    try:
        _Filling(fetcher, os.fsencode(scratch), result, told).fill(listing)
        if extras is not None:
            _extras(fetcher, listing, extras, result)
        failpoints.hit("restore-filled")
        if not inside:
            os.rename(scratch, target)
    except BaseException:
        if not inside:
            remove(scratch)
        raise
    return result


class _Filling:
    def __init__(self, fetcher: Fetcher, top: bytes, result: Restored, told: Callable[[Restored], None]) -> None:
        self._fetcher, self._top, self._result, self._told = fetcher, top, result, told
        self._folders: dict[bytes, dict[str, Any]] = {}

    def fill(self, listing: Listing) -> None:
        for group in _groups(self._segments(listing)):
            small = [e for e in group if e["k"] == "file" and e["s"] <= _TOGETHER]
            fetched = dict(self._fetcher.many(ref for entry in small for ref in refs_of(entry)))
            for entry in group:
                self._entry(entry, fetched)
            self._told(self._result)
        # Times of folders last, the deepest first: whatever is put into a folder changes its time.
        for path, entry in sorted(self._folders.items(), key=lambda item: -item[0].count(b"/")):
            self._dress(path, entry)

    def _segments(self, listing: Listing) -> Iterator[list[dict[str, Any]]]:
        for segment in listing.segments:
            try:
                data = self._fetcher.one(segment)
            except DamageError as error:
                self._result.damaged.append((b"", f"a part of the listing: {error}"))
                continue
            yield entries_of(data)

    def _entry(self, entry: dict[str, Any], fetched: dict[Any, bytes | DamageError]) -> None:
        path = bytes_of(entry["p"])
        if not self._sound(path):
            self._result.damaged.append((path, "the listing has no folder for it"))
            return
        place = os.path.join(self._top, path) if path else self._top
        try:
            match entry["k"]:
                case "folder":
                    if path:
                        os.mkdir(place, 0o700)
                    self._folders[path] = entry
                case "link":
                    os.symlink(bytes_of(entry["l"]), place)
                    self._dress(path, entry)
                case "again":
                    os.link(os.path.join(self._top, bytes_of(entry["l"])), place, follow_symlinks=False)
                case "file":
                    self._file(place, entry, fetched)
                    self._dress(path, entry)
                case other:
                    raise DamageError(f"an entry of unknown kind {other!r}: upgrade")
        except (DamageError, FileNotFoundError) as error:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(place)
            self._result.damaged.append((path, str(error)))
            return
        self._result.entries += 1

    def _sound(self, path: bytes) -> bool:
        """Whether a path leads nowhere but into a folder of this listing."""
        folder, _, name = path.rpartition(b"/")
        if path == b"":
            return not self._folders
        return folder in self._folders and name not in (b"", b".", b"..")

    def _file(self, place: bytes, entry: dict[str, Any], fetched: dict[Any, bytes | DamageError]) -> None:
        with open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            refs = refs_of(entry)
            for start in range(0, len(refs), 4):
                part = refs[start : start + 4]
                found = fetched if entry["s"] <= _TOGETHER else dict(self._fetcher.many(part))
                for ref in part:
                    data = found[ref]
                    if isinstance(data, DamageError):
                        raise data
                    if len(data) > 4096 and data.count(0) == len(data):
                        file.seek(len(data), os.SEEK_CUR)  # a hole stays a hole
                    else:
                        file.write(data)
            file.truncate(entry["s"])
            self._result.size += entry["s"]

    def _dress(self, path: bytes, entry: dict[str, Any]) -> None:
        """Owner, permissions, attributes and time of what is there."""
        place, link = os.path.join(self._top, path) if path else self._top, entry["k"] == "link"
        if os.geteuid() == 0:
            try:
                os.chown(place, *entry["o"], follow_symlinks=False)
            except OSError as error:
                self._result.lesser.append((path, f"its owner cannot be restored: {error.strerror}"))
        for name, value in entry.get("x", {}).items():
            try:
                os.setxattr(place, name, base64.b64decode(value), follow_symlinks=False)
            except OSError as error:
                self._result.lesser.append((path, f"its attribute {name} cannot be restored: {error.strerror}"))
        if not link:
            os.chmod(place, entry["m"])
        os.utime(place, ns=(entry["t"], entry["t"]), follow_symlinks=False)


def _groups(segments: Iterable[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    """Entries in their order, as many together as are fetched at once."""
    for entries in segments:
        group: list[dict[str, Any]] = []
        size = 0
        for entry in entries:
            more = entry.get("s", 0)
            if group and more <= _TOGETHER < size + more:
                yield group
                group, size = [], 0
            group.append(entry)
            size += more if more <= _TOGETHER else 0
        yield group


def _extras(fetcher: Fetcher, listing: Listing, folder: Path, result: Restored) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for entry in listing.extras:
        place = folder / entry["name"]
        try:
            if ".." in place.parts or not place.is_relative_to(folder):
                raise DamageError("its name leads elsewhere")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"".join(fetcher.one(ref) for ref in refs_of(entry)))
            if "t" in entry:
                os.utime(place, ns=(entry["t"], entry["t"]))
        except DamageError as error:
            result.damaged.append((f"extra {entry['name']}".encode(), str(error)))


def remove(folder: Path) -> None:
    """Remove what a killed restore left, folders without permissions included."""
    if not folder.exists():
        return
    for place, _, _ in os.walk(os.fsencode(folder)):
        os.chmod(place, 0o700)
    shutil.rmtree(os.fsencode(folder))
