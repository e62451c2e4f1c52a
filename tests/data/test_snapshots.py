"""A snapshot is the same for the same input anywhere, whole or absent, and never read when a byte is off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from stackyard.data import snapshots, sources
from stackyard.data.errors import DataError
from stackyard.data.planning import plan_data
from stackyard.spec.models import ProjectSpec, WindowSpec
from stackyard.spec.plain import dump
from stackyard.store import layout
from stackyard.store.objects import Store, sha256

EARLY = WindowSpec.model_validate_json('{"start": "2026-01-01", "end": "2026-01-03"}')

CHILD = """
import json, os, signal, sys
from pathlib import Path
from stackyard.data import checks, snapshots
from stackyard.spec.models import ProjectSpec
from stackyard.spec.plain import load
from stackyard.store.objects import Store

plain, folder, store, survive = json.loads(sys.argv[1]), Path(sys.argv[2]), Store.open(sys.argv[3]), int(sys.argv[4])
create, done = Store.create, []

def deadly(self, key, data):
    if len(done) == survive:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(key)
    return create(self, key, data)

Store.create = deadly
checks.violations = lambda frame, data: []  # importing pandera would take most of this test's time
snapshots.PART_ROWS = 16
print(snapshots.freeze(store, load(ProjectSpec, plain), folder).digest)
"""
WRITES = ("code", "first-part", "second-part", "third-part", "manifest")


class _Dies(Store):
    """A store whose process ends at the nth write."""

    left = 0

    def create(self, key: str, data: bytes) -> bool:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return super().create(key, data)


def _child(
    project: ProjectSpec, folder: Path, store: Path, survive: int = 99, **environment: str
) -> subprocess.Popen[str]:
    argv = [
        sys.executable,
        "-c",
        textwrap.dedent(CHILD),
        json.dumps(dump(project)),
        str(folder),
        str(store),
        str(survive),
    ]
    return subprocess.Popen(argv, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)


def test_a_snapshot_gives_back_the_rows_and_says_what_they_are(
    project: ProjectSpec, folder: Path, store: Store, rows: pl.DataFrame
) -> None:
    found = snapshots.freeze(store, project, folder)
    assert snapshots.load(store, found.digest).equals(sources.read(project.data, folder, None))
    manifest = found.manifest
    assert (manifest["kind"], manifest["version"], manifest["rows"]) == ("snapshot", 1, 40)
    assert manifest["time"] == {
        "column": "ordered",
        "first": "2026-01-01T00:00:00.000000Z",
        "last": "2026-01-10T18:00:00.000000Z",
    }
    assert list(manifest["schema"]) == list(project.data.columns) == manifest["order"]
    assert manifest["statistics"]["weight"] == {
        "nulls": 0,
        "min": 0.0,
        "max": 19.5,
        "mean": 9.75,
        "std": 5.84522597,
        "quantiles": {"0.01": 0.0, "0.05": 1.0, "0.25": 5.0, "0.5": 10.0, "0.75": 14.5, "0.95": 18.5, "0.99": 19.5},
    }
    assert manifest["statistics"]["shop"] == {
        "nulls": 0,
        "distinct": 3,
        "top": [["north", 14], ["south", 13], ["west", 13]],
    }
    assert manifest["statistics"]["note"] == {"nulls": 32, "distinct": 1, "top": [["ring twice", 8]]}
    assert store.exists(layout.code_archive(manifest["code"]))
    assert sha256(store.read(layout.snapshot_manifest(found.digest))) == found.digest


def test_what_goes_in_decides_the_digest_and_nothing_else(
    project: ProjectSpec, change: Callable[..., ProjectSpec], folder: Path, store: Store, tmp_path: Path
) -> None:
    first = snapshots.freeze(store, project, folder)
    assert snapshots.freeze(store, project, folder) == first
    assert snapshots.freeze(Store.open(tmp_path / "other"), project, folder) == first
    child = snapshots.freeze(store, project, folder, window=EARLY, parent=first.digest)
    assert child.manifest["parent"] == first.digest
    others = {child.digest, snapshots.freeze(store, project, folder, window=EARLY).digest}
    (folder / "inputs.py").write_text("# other code\n")
    others.add(snapshots.freeze(store, project, folder).digest)
    assert len(others | {first.digest}) == 4
    assert {snapshot.digest for snapshot in snapshots.listing(store)} == others | {first.digest}
    assert [snapshot.manifest["rows"] for snapshot in snapshots.listing(store)] == [8, 8, 40, 40]


@pytest.mark.parametrize("survive", range(len(WRITES)), ids=WRITES)
def test_ended_at_any_write_it_leaves_no_snapshot_and_the_next_freeze_finishes_it(
    project: ProjectSpec, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survive: int
) -> None:
    monkeypatch.setattr(snapshots, "PART_ROWS", 16)
    store = _Dies.open(tmp_path / "store")
    assert isinstance(store, _Dies)
    store.left = survive
    with pytest.raises(KeyboardInterrupt):
        snapshots.freeze(store, project, folder)
    assert snapshots.listing(store) == []
    store.left = len(WRITES)
    again = snapshots.freeze(store, project, folder)
    assert len(again.manifest["files"]) == 3
    assert store.left == 0
    assert snapshots.load(store, again.digest).height == 40


def test_killed_for_real_it_converges_and_other_processes_find_the_same_digest(
    project: ProjectSpec, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = _child(project, folder, tmp_path / "killed", survive=4)
    whole = _child(project, folder, tmp_path / "whole", POLARS_MAX_THREADS="1", PYTHONHASHSEED="7", TZ="Asia/Tokyo")
    assert killed.wait(60) == -signal.SIGKILL
    killed.communicate()
    digest = whole.communicate(timeout=60)[0].strip()
    monkeypatch.setattr(snapshots, "PART_ROWS", 16)
    store = Store.open(tmp_path / "killed")
    assert snapshots.listing(store) == []
    assert snapshots.freeze(store, project, folder).digest == digest
    assert snapshots.load(store, digest).equals(snapshots.load(Store.open(tmp_path / "whole"), digest))


def test_any_flipped_byte_is_refused_before_a_parser_sees_it(
    project: ProjectSpec, folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = snapshots.freeze(store, project, folder).digest
    parsed: list[object] = []
    monkeypatch.setattr(snapshots.pl, "read_parquet", parsed.append)
    monkeypatch.setattr(snapshots.json, "loads", _only_sound(digest, snapshots.json.loads))
    for key in store.keys(f"snapshots/{digest}"):
        sound = store.read(key)
        for place in range(0, len(sound), max(1, len(sound) // 60)):
            spoiled = bytearray(sound)
            spoiled[place] ^= 1 << (place % 8)
            store.write(key, bytes(spoiled))
            with pytest.raises(DataError, match=digest[:12]):
                snapshots.load(store, digest)
        store.write(key, sound)
    assert parsed == []


def _only_sound(digest: str, loads: Callable[[bytes], object]) -> Callable[[bytes], object]:
    def checked(raw: bytes) -> object:
        assert sha256(raw) == digest, "an altered manifest reached the parser"
        return loads(raw)

    return checked


@pytest.mark.parametrize("name", ["manifest.json", "part-00000.parquet"])
@pytest.mark.parametrize("how", ["altered", "truncated", "removed"])
def test_freezing_again_heals_what_was_damaged(
    project: ProjectSpec, folder: Path, store: Store, name: str, how: str
) -> None:
    digest = snapshots.freeze(store, project, folder).digest
    key = layout.snapshot_part(digest, name)
    sound = store.read(key)
    if how == "removed":
        store.delete(key)
    else:
        store.write(key, sound[:-1] if how == "truncated" else sound[:-1] + b"!")
    with pytest.raises(DataError):
        snapshots.load(store, digest)
    snapshots.freeze(store, project, folder)
    assert store.read(key) == sound


def test_bad_data_is_told_whole_before_anything_is_written(
    change: Callable[..., ProjectSpec], project: ProjectSpec, folder: Path, store: Store
) -> None:
    columns = {**dump(project)["data"]["columns"], "weight": {"type": "float", "known": "before", "maximum": 1}}
    columns["shop"]["categories"] = ["north"]
    with pytest.raises(DataError, match=r"2 rules broken:\n  weight: at most 1: 37 rows") as caught:
        snapshots.freeze(store, change(columns=columns), folder)
    assert [violation.column for violation in caught.value.violations] == ["weight", "shop"]
    assert not list(store.keys(""))


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        pytest.param({"kind": "bundle"}, "kind or version", id="another-kind"),
        pytest.param({"version": 2}, "upgrade", id="newer"),
        pytest.param({"version": "1"}, "kind or version", id="no-version"),
    ],
)
def test_a_manifest_of_another_kind_or_time_is_refused(
    project: ProjectSpec, folder: Path, store: Store, facts: dict[str, object], told: str
) -> None:
    manifest = snapshots.freeze(store, project, folder).manifest
    raw = json.dumps({**manifest, **facts}).encode()
    store.create(layout.snapshot_manifest(sha256(raw)), raw)
    with pytest.raises(DataError, match=told):
        snapshots.load(store, sha256(raw))


def test_a_parent_that_is_not_there_is_refused(project: ProjectSpec, folder: Path, store: Store) -> None:
    with pytest.raises(DataError, match="is not in the store"):
        snapshots.freeze(store, project, folder, parent="0" * 64)


def test_a_plan_reads_and_checks_without_freezing(project: ProjectSpec, folder: Path) -> None:
    rows, seconds, violations = plan_data(project, folder)
    assert (rows, violations) == (40, [])
    assert seconds > 0
