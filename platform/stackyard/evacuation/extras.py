"""What lies beside a workspace and belongs to a version of it: what is installed, which jobs ran, what they wrote.

Some of it lives shorter than the workspace: a Ray head that dies takes its list of jobs with it, a machine that starts
again its folder of logs. What was once seen of those is remembered beside the saver's own memory and saved on.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from stackyard.evacuation import copying, jobs
from stackyard.evacuation.freezing import write_whole
from stackyard.evacuation.packs import Packer, Piece
from stackyard.evacuation.passing import Tally
from stackyard.evacuation.settings import Extra, SaverSettings
from stackyard.evacuation.walking import LeftOut, Unsaved

_SECONDS = 60
_INSTALLED = """
import importlib.metadata as found
for line in sorted({f"{each.metadata['Name']}=={each.version}" for each in found.distributions()}, key=str.lower):
    print(line)
"""
Saved = tuple[dict[str, Any], list[Piece]]


def collect(settings: SaverSettings, packer: Packer, tally: Tally) -> list[dict[str, Any]]:
    """Save what was asked for, as a listing has it; what is not there is left out, and told."""
    found: list[Saved] = []
    for name, extra in sorted(settings.extras.items()):
        place = f"extra {name}".encode()
        try:
            if extra.folder is not None:
                found += _folder(name, extra, settings, packer, tally)
            else:
                data = _data(name, extra, settings, tally)
                found.append(({"name": name, "s": len(data)}, [packer.add(data)]))
        except FileNotFoundError as error:
            tally.left_out.append(LeftOut(place, f"there is no {error.filename}"))
        except (OSError, subprocess.SubprocessError) as error:
            tally.unsaved.append(Unsaved(place, "unreadable", str(error)))
    packer.close()
    return [fields | {"c": [piece.place.plain() for piece in pieces]} for fields, pieces in found]


def installed(python: str) -> bytes:
    """What is installed for `python`, as requirements; without pip, names and versions alone."""
    for said in (["-m", "pip", "freeze", "--all", "--disable-pip-version-check"], ["-c", _INSTALLED]):
        asked = subprocess.run([python, *said], capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS)
        if asked.returncode == 0:
            return asked.stdout
    raise OSError(f"{python} does not say what is installed: {asked.stderr.decode(errors='replace')[-200:]}")


def _data(name: str, extra: Extra, settings: SaverSettings, tally: Tally) -> bytes:
    if extra.file is not None:
        return extra.file.read_bytes()
    if extra.freeze is not None:
        return installed(str(extra.freeze))
    return _jobs(name, extra, settings, tally)


def _jobs(name: str, extra: Extra, settings: SaverSettings, tally: Tally) -> bytes:
    """The jobs that the head tells of, and those that heads before it told of; a dead head is no error."""
    kept = settings.state / "extras" / name
    try:
        known = kept.read_bytes()
    except FileNotFoundError:
        known = b""
    stopped = (settings.state / "frozen.json").exists()  # then the head cannot answer, and nothing new began
    told = None if stopped else jobs.ask(str(extra.jobs), extra.token)
    if told is not None:
        known = jobs.joined(known, told)
        with suppress(OSError):  # on a full disk what a dead head said is lost, and the version has it
            kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(kept, known)
    elif not stopped and (not known or time.time() - kept.stat().st_mtime > 2 * settings.every):
        rule = "Ray does not say which jobs ran; what it last said is saved" if known else "Ray does not say"
        tally.left_out.append(LeftOut(f"extra {name}".encode(), rule))
    return known or jobs.NONE


@dataclass(frozen=True)
class _File:
    name: str
    path: Path
    seen: os.stat_result


def _folder(name: str, extra: Extra, settings: SaverSettings, packer: Packer, tally: Tally) -> list[Saved]:
    """The files of a folder, the newest first, as long as they fit together."""
    assert extra.folder is not None
    kept = settings.state / "extras" / name if extra.keep else None
    there = {each.name: each for each in _files(extra.folder, extra)}
    before = {each.name: each for each in _files(kept, extra)} if kept is not None else {}
    left, chosen, beyond = extra.most, list[_File](), 0
    for each in sorted((before | there).values(), key=lambda each: (-each.seen.st_mtime_ns, each.name)):
        left -= each.seen.st_size
        if left >= 0:
            chosen.append(each)
        else:
            beyond += 1
            if each.name in before:
                before[each.name].path.unlink(missing_ok=True)
    if beyond:
        rule = f"the newest {extra.most} bytes are saved; {beyond} older files are not"
        tally.left_out.append(LeftOut(f"extra {name}".encode(), rule))
    saved: list[Saved] = []
    for each in sorted(chosen, key=lambda each: each.name):
        with suppress(FileNotFoundError):  # it was deleted meanwhile
            saved.append(_file(name, each, packer))
            if kept is not None and each.name in there:
                _keep(each, before.get(each.name), kept / each.name)
    return saved


def _files(folder: Path, extra: Extra) -> Iterator[_File]:
    """Every file that is meant and not empty; links are not followed."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            inner = str(path.relative_to(folder))
            if any(fnmatchcase(inner, pattern) for pattern in extra.names) and not path.is_symlink():
                with suppress(FileNotFoundError):
                    if (seen := path.stat()).st_size and path.is_file():
                        yield _File(inner, path, seen)


def _file(name: str, each: _File, packer: Packer) -> Saved:
    """What it held when it was looked at; a log may grow meanwhile."""
    descriptor = os.open(each.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        pieces, size = copying.content(descriptor, each.seen.st_size, packer)
    finally:
        os.close(descriptor)
    inner = each.name.encode(errors="surrogateescape").decode(errors="replace")
    return {"name": f"{name}/{inner}", "s": size, "t": each.seen.st_mtime_ns}, pieces


def _keep(each: _File, before: _File | None, place: Path) -> None:
    mark = (each.seen.st_size, each.seen.st_mtime_ns)
    if before is not None and (before.seen.st_size, before.seen.st_mtime_ns) == mark:
        return
    with suppress(OSError):  # as above
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with each.path.open("rb") as file:
            write_whole(place, file.read(each.seen.st_size))
        os.utime(place, ns=(each.seen.st_mtime_ns, each.seen.st_mtime_ns))
