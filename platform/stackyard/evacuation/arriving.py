"""A restored version moves into a workspace in which something may already run: whole, or not at all.

It is filled in beside the workspace. Then, under the saver's lock, a note is written and every entry is renamed to its
place; the folder itself stays, since Ray and notebooks stand in it. Killed before the note is changed to `in`, nothing
happened; killed after it, whoever takes the lock next (a save, an evacuation, a restore) finishes the move before it
looks at the workspace, so that no version ever holds half of one. Only what was put there when the workspace was first
opened, and was not touched since, is ever taken away for it.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stackyard.evacuation import failpoints
from stackyard.evacuation.blobs import Coder
from stackyard.evacuation.cache import locked
from stackyard.evacuation.errors import EvacuationError, shown
from stackyard.evacuation.freezing import write_whole
from stackyard.evacuation.listing import bytes_of, text_of
from stackyard.evacuation.restoring import Restored, remove, restore
from stackyard.evacuation.settings import SaverSettings
from stackyard.evacuation.versions import Found
from stackyard.store.objects import Store

_HERE, _KEEP_WHAT_IS_THERE = -100, 1  # AT_FDCWD, RENAME_NOREPLACE of linux/fs.h


class OccupiedError(EvacuationError):
    """The workspace holds something that somebody made."""

    code = "occupied"


class BusyError(EvacuationError):
    """Another restore into the workspace runs."""

    code = "busy"


def bring(
    source: SaverSettings, store: Store, coder: Coder, found: Found, into: SaverSettings,
    told: Callable[[Restored], None],
) -> Restored:  # fmt: skip
    """Restore `found` of `source` into the workspace of `into`. Raises EvacuationError, OSError; then nothing changed.

    `told` is called now and then with what is done so far.
    """
    with _alone(into.state):
        with locked(into.state):
            begun = _noted(into)
            beside = finish(into)
            if begun.get("phase") == "in" and begun.get("digest") == found.digest:  # it was killed at its very end
                damaged = [(bytes_of(path), reason) for path, reason in begun["damaged"]]
                return Restored(found, into.workspace, found.version.entries, found.version.size, damaged, beside)
            _free(into)
        scratch = into.workspace.with_name(".arriving")
        remove(scratch)
        result = restore(source, store, coder, found, scratch, told=told)
        with locked(into.state):
            try:
                seeds = _free(into)
            except OccupiedError:
                remove(scratch)
                raise
            _move(into, result, seeds)
            result.lesser += finish(into)
    result.target = into.workspace
    return result


def finish(into: SaverSettings) -> list[tuple[bytes, str]]:
    """Finish the move that somebody was killed in, or undo it where it had not begun; nothing without one.

    Take `cache.locked` around it. Returns (path, why) of what came under another name, since its own was taken.
    """
    note, told = into.state / "arriving.json", _noted(into)
    if not told:
        return []
    top, scratch = os.fsencode(into.workspace), os.fsencode(told["from"])
    aside, beside = os.fsencode(told["aside"]), list[tuple[bytes, str]]()
    if told["phase"] == "out":
        _empty(aside, top)
    else:
        closed = {bytes_of(name): mode for name, mode in told["closed"].items()}
        for name in _names(scratch):
            if name in closed:  # a folder that its owner closed moves for nobody but root
                os.chmod(os.path.join(scratch, name), closed[name] | 0o700)
            beside += _arrive(scratch, top, name)
            failpoints.hit("arrival-moving")
        for name, mode in closed.items():
            place = os.path.join(top, name)  # people work on after a kill: it may be gone by now, or something else
            if os.path.isdir(place) and not os.path.islink(place):
                os.chmod(place, mode)
        _dress(top, told)
        write_whole(into.workspace.with_name("seeded.json"), json.dumps({"version": 1, "entries": []}).encode())
        remove(Path(os.fsdecode(scratch)))
        remove(Path(os.fsdecode(aside)))
        failpoints.hit("arrived")
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(aside)
    note.unlink()
    return beside


def _noted(into: SaverSettings) -> dict[str, Any]:
    try:
        return json.loads((into.state / "arriving.json").read_bytes())
    except FileNotFoundError:
        return {}


def _move(into: SaverSettings, result: Restored, seeds: list[bytes]) -> None:
    """Take what was put there at first out of the way, and note that from now on everything goes in."""
    scratch, aside, top = result.target, into.workspace.with_name(".replaced"), os.fsencode(into.workspace)
    seen = scratch.stat()
    remove(aside)
    aside.mkdir(mode=0o700)
    told: dict[str, Any] = {
        "version": 1, "phase": "out", "from": str(scratch), "aside": str(aside), "mode": seen.st_mode & 0o7777,
        "digest": result.found.digest, "damaged": [(text_of(path), reason) for path, reason in result.damaged],
        "mtime": seen.st_mtime_ns, "owner": [seen.st_uid, seen.st_gid],
        "closed": {text_of(name): mode for name, mode in _closed(os.fsencode(scratch))},
        "xattrs": {n: base64.b64encode(os.getxattr(scratch, n)).decode() for n in os.listxattr(scratch)},
    }  # fmt: skip
    note = into.state / "arriving.json"
    write_whole(note, json.dumps(told).encode())
    failpoints.hit("arrival-noted")
    scratch.chmod(0o700)
    for name in seeds:
        os.rename(os.path.join(top, name), os.path.join(os.fsencode(aside), name))
    try:
        _untouched(os.fsencode(aside), _seeded(into))
    except OccupiedError:
        finish(into)
        raise
    write_whole(note, json.dumps({**told, "phase": "in"}).encode())


def _free(into: SaverSettings) -> list[bytes]:
    """The top names that may be taken away. Raises OccupiedError for a workspace in which somebody made something."""
    try:
        if os.stat(into.workspace).st_dev != os.stat(into.workspace.parent).st_dev:
            raise EvacuationError(f"{into.workspace} is a disk of its own: nothing can be moved into it in one step")
    except FileNotFoundError:
        raise EvacuationError(f"the workspace {into.workspace} is not there: `pulumi up` makes it") from None
    top = os.fsencode(into.workspace)
    _untouched(top, _seeded(into))
    return _names(top)


def _untouched(top: bytes, seeded: dict[bytes, tuple[int, int]]) -> None:
    above = {path[:at] for path in seeded for at, letter in enumerate(path) if letter == ord("/")}
    for place, folders, files in os.walk(top):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in [*folders, *files]:
            path = os.path.relpath(os.path.join(place, name), top)
            if name in folders and name not in links:
                made = path not in above and path not in seeded
            else:
                seen = os.lstat(os.path.join(top, path))
                made = seeded.get(path) != (seen.st_size, seen.st_mtime_ns)
            if made:
                raise OccupiedError(
                    f"the workspace is not empty ({shown(path)}): nothing is ever restored over somebody's work; "
                    "restore into another cluster, or take away what is there"
                )


def _seeded(into: SaverSettings) -> dict[bytes, tuple[int, int]]:
    """What was put into the workspace when it was first opened: path -> size, mtime in ns."""
    try:
        found = json.loads(into.workspace.with_name("seeded.json").read_bytes())
        return {bytes_of(path): (size, mtime) for path, size, mtime in found["entries"]}
    except (FileNotFoundError, ValueError, KeyError):
        return {}


def _arrive(scratch: bytes, top: bytes, name: bytes) -> list[tuple[bytes, str]]:
    """Move one entry to its place; where somebody was faster, beside what he made."""
    wanted = name
    while not _renamed(os.path.join(scratch, name), os.path.join(top, wanted)):
        wanted += b".restored"
    return [] if wanted == name else [(wanted, f"{shown(name)} was made by somebody while it was restored")]


def _renamed(source: bytes, target: bytes) -> bool:
    """Rename, unless something is at `target`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2") and not libc.renameat2(_HERE, source, _HERE, target, _KEEP_WHAT_IS_THERE):
        return True
    number = ctypes.get_errno()
    if number == errno.EEXIST or os.path.lexists(target):
        return False
    os.rename(source, target)  # some file systems know no such flag
    return True


def _closed(folder: bytes) -> Iterator[tuple[bytes, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            mode = entry.stat(follow_symlinks=False).st_mode & 0o7777
            if entry.is_dir(follow_symlinks=False) and not mode & 0o200:
                yield entry.name, mode


def _dress(top: bytes, told: dict[str, Any]) -> None:
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            os.chown(top, *told["owner"])
    for name, value in told["xattrs"].items():
        with contextlib.suppress(OSError):
            os.setxattr(top, name, base64.b64decode(value))
    os.chmod(top, told["mode"])
    os.utime(top, ns=(told["mtime"], told["mtime"]))


def _empty(folder: bytes, into: bytes) -> None:
    for name in _names(folder):
        _arrive(folder, into, name)


def _names(folder: bytes) -> list[bytes]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Raises BusyError while another restore into the workspace runs."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(state / "restore.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError("another restore into this workspace runs: wait for it") from None
        yield
    finally:
        os.close(descriptor)
