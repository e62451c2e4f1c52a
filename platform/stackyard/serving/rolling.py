"""From a spool's segments to Parquet in the store: any time again, and past what nobody can read.

A segment that cannot be read whole is set aside, so that it holds back none of those behind it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import polars as pl

from stackyard.store.objects import Store

HEAD = struct.Struct("<II")
"""Before each block of a segment: its bytes and their CRC-32."""
ASIDE_FOLDER = ".set-aside"
"""Below a log's folder, hidden like the labels': segments that could not be read, for a person to look at."""
ASIDE_SEGMENTS = 16
"""The newest ones that are kept; together with a log's disk limit they bound the disk."""

Part = tuple[str, str, pl.DataFrame]
"""(day YYYY-MM-DD, ending of the file's name, rows)."""


def roll(
    path: Path,
    store: Store,
    parts: Callable[[pl.DataFrame], Iterable[Part]],
    key: Callable[[str, str], str],
    *,
    dead: bool = False,
    poisoned: Callable[[], None] = lambda: None,
) -> int:
    """Write the sealed segments of spool `path` (all of a `dead` replica's) to the store; returns rows.

    Repeatable: names follow from the spool and the content, and an object that is there is not written again. Of a
    segment that holds what cannot be read all else is written, then it is set aside, told, and `poisoned` is called.
    """
    total = 0
    for segment in sorted([*path.glob("*.blocks"), *(path.glob("*.open") if dead else ())]):
        found, troubles = _files(segment, parts)
        for (day, ending), (rows, data) in found.items():
            store.create(key(day, f"{path.name}-{segment.stem}{ending}.parquet"), data)
            total += rows
        if troubles:
            _set_aside(segment, troubles)
            poisoned()
        else:
            segment.unlink()
    return total


def _files(
    segment: Path, parts: Callable[[pl.DataFrame], Iterable[Part]]
) -> tuple[dict[tuple[str, str], tuple[int, bytes]], list[str]]:
    """By day and ending the rows and the Parquet of `segment`, and why the rest of it cannot be read."""
    frames: dict[tuple[str, str], list[pl.DataFrame]] = {}
    made: dict[tuple[str, str], tuple[int, bytes]] = {}
    troubles: list[str] = []
    with _telling(troubles, "its bytes"):
        for block in blocks(segment):
            with _telling(troubles, "a block"):
                for day, ending, part in list(parts(pl.read_ipc_stream(io.BytesIO(block)))):
                    frames.setdefault((day, ending), []).append(part)
    for place, found in frames.items():
        with _telling(troubles, f"{sum(part.height for part in found)} rows of {place[0]}"):
            buffer = io.BytesIO()
            whole = pl.concat(found, how="diagonal_relaxed")
            whole.write_parquet(buffer, compression="zstd")
            made[place] = (whole.height, buffer.getvalue())
    return made, troubles


@contextlib.contextmanager
def _telling(troubles: list[str], what: str) -> Iterator[None]:
    """Note what goes wrong within for good; what may pass (no memory, no descriptor) is raised."""
    try:
        yield
    except (Exception, pl.exceptions.PanicException) as error:
        passing = isinstance(error, OSError) and error.errno not in (None, errno.EIO)
        if passing or isinstance(error, MemoryError):
            raise
        told = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        troubles.append(f"{what}: {told}")


def _set_aside(segment: Path, troubles: list[str]) -> None:
    """Move `segment` out of the way of those behind it, and let the oldest of many such ones go."""
    spool = segment.parent
    aside = spool.parent / ASIDE_FOLDER
    aside.mkdir(mode=0o700, exist_ok=True)
    place = aside / f"{spool.name}-{segment.name}"
    segment.rename(place)
    print(f"serving: {place} was set aside, it cannot be read whole ({'; '.join(troubles)[:500]})", flush=True)
    for old in sorted(aside.iterdir())[:-ASIDE_SEGMENTS]:
        old.unlink(missing_ok=True)


def blocks(segment: Path) -> Iterator[bytes]:
    """The whole blocks of a segment, up to the first that a kill cut short."""
    with segment.open("rb") as file:
        while len(head := file.read(HEAD.size)) == HEAD.size:
            size, checksum = HEAD.unpack(head)
            block = file.read(size)
            if len(block) != size or zlib.crc32(block) != checksum:
                return
            yield block
