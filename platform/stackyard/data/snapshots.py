"""Snapshots: one window of rows, frozen, so that a model can be made again from exactly what made it.

A manifest names Parquet files by sha256, and its own sha256 is the snapshot's digest. Nothing in it depends on the
clock, the machine or the order in which rows came: equal rows, spec and code give an equal digest. Files are written
first and the manifest last, so a freeze that is killed leaves nothing that could be taken for a snapshot, and the
next one picks up what is there.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from stackyard.data import checks, code, sources
from stackyard.data.errors import DataError
from stackyard.data.requests import DTYPES
from stackyard.data.statistics import statistics
from stackyard.spec.models import DataSpec, ProjectSpec, WindowSpec
from stackyard.store import layout
from stackyard.store.documents import canonical
from stackyard.store.objects import DigestMismatchError, Store, sha256

__all__ = ["DataError", "Snapshot", "freeze", "listing", "load"]

KIND, VERSION = "snapshot", 1
PART_ROWS = 1 << 20
"""Rows of one file: tens of megabytes, so that neither writer nor reader holds much more than the rows themselves."""
GROUP_ROWS = 1 << 17

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """A frozen window. `digest` is the manifest's sha256, in hex."""

    digest: str
    manifest: dict[str, Any]


def freeze(
    store: Store,
    project: ProjectSpec,
    project_folder: Path,
    *,
    window: WindowSpec | None = None,
    parent: str | None = None,
    exclude: Collection[dt.date] = (),
) -> Snapshot:
    """Read, check and freeze a window (None: the spec's own); `parent` is the digest of the snapshot it follows.

    Rows of the days (UTC) in `exclude` are left out before anything is checked: they may break every rule.

    Raises DataError, with every violation, before anything is written. Repeating it, also after being killed at any
    moment, gives the same digest and a whole snapshot.
    """
    frame = _without(sources.read(project.data, project_folder, window), project.data, exclude)
    found = checks.violations(frame, project.data)
    if found:
        told = "\n".join(f"  {violation}" for violation in found)
        raise DataError(f"the data is not what the spec says, {len(found)} rules broken:\n{told}", found)
    if parent is not None:
        _manifest(store, parent)
    frame = frame.select(list(project.data.columns)).rechunk()
    with tempfile.TemporaryDirectory(prefix="sy-snapshot-") as scratch:
        parts = list(_parts(frame, Path(scratch)))
        facts = _facts(frame, project, window or project.data.window) | {
            "parent": parent,
            "code": code.publish(store, project_folder),
            "files": parts,
        }
        if exclude:
            facts["exclude"] = sorted({day.isoformat() for day in exclude})
        raw = canonical(facts)
        digest = sha256(raw)
        for part in parts:
            store.keep(layout.snapshot_part(digest, part["name"]), Path(scratch, part["name"]).read_bytes())
    store.keep(layout.snapshot_manifest(digest), raw)  # last: a manifest means a whole snapshot
    return Snapshot(digest, facts)


def load(store: Store, digest: str) -> pl.DataFrame:
    """The rows of a snapshot, in order. Every byte is checked before a parser sees it. Raises DataError."""
    manifest = _manifest(store, digest)
    frames: list[pl.DataFrame] = []
    for part in manifest["files"]:
        try:
            raw = store.read(layout.snapshot_part(digest, part["name"]), digest=part["sha256"])
        except KeyError:
            raise DataError(f"snapshot {digest[:12]} lacks {part['name']}") from None
        except DigestMismatchError:
            raise DataError(f"snapshot {digest[:12]}: {part['name']} is not the file that was frozen") from None
        frames.append(pl.read_parquet(raw))
    return pl.concat(frames, rechunk=True)


def listing(store: Store) -> list[Snapshot]:
    """The snapshots of a store, by the time they reach to. One whose manifest was altered is left out, and logged."""
    found: list[Snapshot] = []
    for key in store.keys("snapshots"):
        digest = key.split("/")[1] if key.count("/") == 2 else ""
        if key == layout.snapshot_manifest(digest):
            try:
                found.append(Snapshot(digest, _manifest(store, digest)))
            except DataError as error:
                _log.warning("left out: %s", error)
    return sorted(found, key=lambda snapshot: (snapshot.manifest["time"]["last"], snapshot.digest))


def _without(frame: pl.DataFrame, data: DataSpec, days: Collection[dt.date]) -> pl.DataFrame:
    """The rows of other days. Raises DataError when none is left."""
    kind = frame.schema.get(data.time)
    if not days or not isinstance(kind, pl.Datetime) or kind.time_zone is None:
        return frame  # a time of another type is for the checks to tell
    day = pl.col(data.time).dt.convert_time_zone("UTC").dt.date()
    left = frame.filter(~day.is_in(sorted(days)) | day.is_null())
    if left.height == 0:
        raise DataError(f"data.source: no rows are left without the {len(days)} days that are excluded")
    return left


def _facts(frame: pl.DataFrame, project: ProjectSpec, window: WindowSpec) -> dict[str, Any]:
    """What a manifest says of the rows."""
    return {
        "kind": KIND,
        "version": VERSION,
        "project": project.name,
        "rows": frame.height,
        "window": window.model_dump(mode="json"),
        "time": _time(frame, project.data),
        "schema": {name: spec.model_dump(mode="json") for name, spec in project.data.columns.items()},
        "order": list(project.data.columns),
        "statistics": statistics(frame),
    }


def _manifest(store: Store, digest: str) -> dict[str, Any]:
    try:
        found = json.loads(store.read(layout.snapshot_manifest(digest), digest=digest))
    except KeyError:
        raise DataError(f"snapshot {digest[:12]} is not in the store") from None
    except DigestMismatchError:
        raise DataError(f"the manifest of snapshot {digest[:12]} does not have that digest") from None
    if found.get("kind") != KIND or not isinstance(found.get("version"), int) or found["version"] > VERSION:
        raise DataError(f"snapshot {digest[:12]} is of a kind or version this program does not understand: upgrade")
    return found


def _parts(frame: pl.DataFrame, folder: Path) -> Iterator[dict[str, Any]]:
    """Write the frame as Parquet files in `folder`; their names, rows, sizes and digests."""
    for number, start in enumerate(range(0, frame.height, PART_ROWS)):
        name = f"part-{number:05d}.parquet"
        piece = frame.slice(start, PART_ROWS).rechunk()
        # Settings are spelled out, so that a default that changes does not change digests.
        piece.write_parquet(
            folder / name, compression="zstd", compression_level=3, statistics=True, row_group_size=GROUP_ROWS
        )
        raw = (folder / name).read_bytes()
        yield {"name": name, "rows": piece.height, "size": len(raw), "sha256": sha256(raw)}


def _time(frame: pl.DataFrame, data: DataSpec) -> dict[str, str]:
    ends = [frame[data.time].min(), frame[data.time].max()]
    first, last = pl.Series(ends, dtype=DTYPES["datetime"]).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_list()
    return {"column": data.time, "first": first, "last": last}


def day_after(last: dt.datetime) -> dt.date:
    """The day after the one (UTC) of the last row: what a model that learnt up to it has not seen."""
    return last.astimezone(dt.UTC).date() + dt.timedelta(days=1)
