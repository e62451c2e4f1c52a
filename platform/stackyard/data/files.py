"""Parquet and CSV, in a folder of the project or in an object store, read one file at a time.

Order of files never matters to the rows' order. A folder stands for every file of the kind below it; hidden files
and names with a leading underscore are what other tools leave behind, and are passed over.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from fnmatch import translate
from pathlib import Path, PurePosixPath

import obstore
import polars as pl
from obstore.store import from_url

from stackyard.data.errors import DataError
from stackyard.data.normal import normal
from stackyard.spec.models import DataSpec
from stackyard.spec.problems import shown_file

Opened = tuple[str, Path | bytes]
"""A file's name for people, and its path or its bytes."""

_GLOB = re.compile(r"[*?\[]")


def read_parquet(where: str, data: DataSpec, folder: Path) -> pl.DataFrame:
    """All rows of the Parquet files at `where`, typed by themselves. Raises DataError."""
    return _together(where, ".parquet", folder, lambda file: normal(pl.read_parquet(file), data))


def read_csv(where: str, data: DataSpec, folder: Path) -> pl.DataFrame:
    """All rows of the CSV files at `where`; first line names columns, an empty field is missing. Raises DataError."""
    return _together(where, ".csv", folder, lambda file: normal(pl.read_csv(file, infer_schema=False), data, text=True))


def _together(where: str, suffix: str, folder: Path, read: Callable[[Path | io.BytesIO], pl.DataFrame]) -> pl.DataFrame:
    frames: list[pl.DataFrame] = []
    first = ""
    for name, content in _remote(where, suffix) if "://" in where else _local(where, suffix, folder):
        try:
            frame = read(io.BytesIO(content) if isinstance(content, bytes) else content)
        except (pl.exceptions.PolarsError, OSError, ValueError) as error:
            raise DataError(f"{name}: cannot be read as {suffix[1:]}: {str(error).splitlines()[0][:300]}") from None
        first = first or name
        if frames and set(frame.columns) != set(frames[0].columns):
            differ = sorted(set(frame.columns) ^ set(frames[0].columns))
            raise DataError(f"{name}: other columns than {first}: {', '.join(differ[:8])}")
        frames.append(frame)
    if not frames:
        raise DataError(f"data.source: no {suffix} file at {where}")
    return _joined(frames)


def _joined(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """One frame; a column whose type differs between files becomes text, so that the checks can name its values."""
    for name in frames[0].columns:
        kinds = {frame.schema[name] for frame in frames if frame.schema[name] != pl.Null}
        if len(kinds) > 1:
            frames = [frame.with_columns(pl.col(name).cast(pl.String)) for frame in frames]
    return pl.concat([frame.select(frames[0].columns) for frame in frames], how="vertical_relaxed")


def _local(where: str, suffix: str, folder: Path) -> Iterator[Opened]:
    path = folder / where
    if path.is_file():
        found = [path]
    elif path.is_dir():
        found = [file for file in path.rglob(f"*{suffix}") if _visible(PurePosixPath(file.relative_to(path)))]
    else:
        base, pattern = _split(where)
        found = list((folder / base).glob(pattern)) if _GLOB.search(pattern) else []
    for file in sorted(file for file in found if file.is_file()):
        yield shown_file(file), file


def _remote(url: str, suffix: str) -> Iterator[Opened]:
    base, pattern = _split(url)
    if not _GLOB.search(pattern) and PurePosixPath(url).suffix == suffix:
        base, pattern = url.rsplit("/", 1)
    try:
        store = from_url(base)
        keys = sorted(str(meta["path"]) for page in obstore.list(store) for meta in page)
        if not _GLOB.search(pattern):
            keys = [key for key in keys if key == pattern or (not pattern and _matches(key, suffix))]
        else:
            keys = [key for key in keys if _glob(pattern).fullmatch(key)]
        for key in keys:
            yield f"{base}/{key}", bytes(obstore.get(store, key).bytes())
    except (obstore.exceptions.BaseError, ValueError, OSError) as error:
        raise DataError(f"{url}: {str(error).splitlines()[0][:300]}") from None


def _matches(key: str, suffix: str) -> bool:
    return key.endswith(suffix) and _visible(PurePosixPath(key))


def _visible(path: PurePosixPath) -> bool:
    return not any(part.startswith((".", "_")) for part in path.parts)


def _split(where: str) -> tuple[str, str]:
    """The part before the first wildcard's folder, and the rest; the rest is empty without a wildcard."""
    found = _GLOB.search(where)
    if found is None:
        return where.rstrip("/"), ""
    cut = where.rfind("/", 0, found.start())
    return (where[:cut], where[cut + 1 :]) if cut >= 0 else (".", where)


def _glob(pattern: str) -> re.Pattern[str]:
    """A wildcard as in a shell: `*` stays within one folder, `**/` goes through any."""
    parts = ["(?:[^/]+/)*" if part == "**" else _segment(part) + "/" for part in pattern.split("/")]
    return re.compile("".join(parts).removesuffix("/"))


def _segment(part: str) -> str:
    return translate(part).removeprefix("(?s:").removesuffix(r")\Z").replace(".*", "[^/]*")
