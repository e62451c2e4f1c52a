"""The project's code and data in a workspace that is opened for the first time: once, whole, and over nobody's work."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from leased import leased
from stackyard.control.seeds import AGAIN, Seeds
from stackyard.control.settings import ControllerSettings
from stackyard.data.errors import DataError
from stackyard.evacuation import evacuating
from stackyard.evacuation.settings import SaverSettings
from stackyard.leasing import seeding
from stackyard.leasing.seeding import SeedingSettings, seed
from stackyard.spec import load, plain
from toy import PROJECT, wait_until

ROWS = """
import datetime as dt, polars as pl
def rows(start, end):
    at = [dt.datetime(2024, 1, day, tzinfo=dt.UTC) for day in (3, 4)]
    return pl.DataFrame({"at": at, "distance": [1.0, 2.0], "late": [True, False]})
def features(frame): ...
"""


@dataclass(frozen=True)
class Bed:
    """A cluster's folder with an empty workspace, opened for the first time, and a project."""

    settings: SeedingSettings
    saver: SaverSettings

    @property
    def folder(self) -> Path:
        return self.settings.cluster

    @property
    def workspace(self) -> Path:
        return self.saver.workspace

    def tell(self, name: str, **changes: Any) -> None:
        path = self.folder / name
        path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **changes}))

    def files(self) -> dict[str, bytes]:
        found = [path for path in self.workspace.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.workspace)): path.read_bytes() for path in found}

    def mark(self) -> dict[str, Any]:
        return json.loads((self.folder / "seeded.json").read_text())


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    project = tmp_path / "examples/toy"
    (project / "__pycache__").mkdir(parents=True)
    (project / "project.yaml").write_text(PROJECT)
    (project / "rows.py").write_text(ROWS)
    for name in (".env", "__pycache__/rows.cpython-311.pyc", "weights.bin"):
        (project / name).write_text("not for others")
    (tmp_path / "stacks").mkdir()
    (tmp_path / "Pulumi.yaml").write_text("name: toy\nruntime: python\n")
    (tmp_path / "stacks/local.yaml").write_text("project: ../examples/toy\ntarget: local\n")
    spec = load(tmp_path / "stacks/local.yaml")
    (tmp_path / "leases/lab").mkdir(parents=True)
    lab = leased(tmp_path / "leases/lab")
    made = Bed(
        SeedingSettings(cluster=lab.base, project=plain.dump(spec.project), project_folder=project), lab.settings
    )
    (lab.base / "evacuation.json").write_text(lab.settings.model_dump_json())
    made.tell("lease.json", data=True)
    made.tell("instance.json", instance="i-1", generation=1, sealed=False)
    return made


def test_a_workspace_opened_for_the_first_time_gets_code_and_data_and_says_what_it_was_given(bed: Bed):
    assert seed(bed.settings)
    assert sorted(bed.files()) == ["data/toy.parquet", "toy/project.yaml", "toy/rows.py"], "no caches, no secrets"
    assert pl.read_parquet(bed.workspace / "data/toy.parquet")["distance"].to_list() == [1.0, 2.0]
    for path, size, mtime in bed.mark()["entries"]:
        seen = (bed.workspace / path).stat()
        assert (seen.st_size, seen.st_mtime_ns) == (size, mtime)
    assert len(bed.mark()["entries"]) == 3
    assert not (bed.folder / "seeding").exists()
    before = bed.files()
    (bed.workspace / "toy/rows.py").unlink()
    assert not seed(bed.settings), "what somebody took away does not come back"
    assert "toy/rows.py" in before.keys() - bed.files().keys()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda bed: bed.tell("lease.json", data=False),
        lambda bed: bed.tell("instance.json", generation=2),
        lambda bed: bed.tell("instance.json", sealed=True),
        lambda bed: bed.tell("suspended.json", reason="idle"),
        lambda bed: bed.tell("seeded.json", entries=[]),
        lambda bed: (bed.folder / "instance.json").write_text("{"),
        lambda bed: evacuating.evacuate(bed.saver),
    ],
    ids=["not-asked-for", "opened-before", "not-open", "suspended", "seeded", "nobody-knows-whose", "just-sealed"],
)
def test_nothing_is_put_into_a_workspace_that_is_not_newly_open(bed: Bed, spoil: Callable[[Bed], Any]):
    spoil(bed)
    assert not seed(bed.settings)
    assert bed.files() == {}


def test_nobodys_work_is_mixed_with_what_was_given(bed: Bed, monkeypatch: pytest.MonkeyPatch):
    whole = seeding.hand_out

    def slowly(*arguments: Any) -> None:
        whole(*arguments)
        (bed.workspace / ".gitignore").write_text("mine")

    monkeypatch.setattr(seeding, "hand_out", slowly)
    assert not seed(bed.settings)
    assert bed.files() == {".gitignore": b"mine"}
    assert bed.mark()["entries"] == []
    assert not (bed.folder / "seeding").exists()


@pytest.mark.parametrize("step", range(1, 6))
def test_killed_at_any_step_it_is_whole_after_the_next_run(bed: Bed, monkeypatch: pytest.MonkeyPatch, step: int):
    left = step

    def dying(act: Callable[..., Any]) -> Callable[..., Any]:
        def done(*arguments: Any, **others: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
            return act(*arguments, **others)

        return done

    with monkeypatch.context() as patch:
        patch.setattr(seeding, "hand_out", dying(seeding.hand_out))
        patch.setattr(seeding, "write_whole", dying(seeding.write_whole))
        patch.setattr(Path, "rename", dying(Path.rename))
        with pytest.raises(KeyboardInterrupt):
            seed(bed.settings)
    assert seed(bed.settings)
    assert sorted(bed.files()) == ["data/toy.parquet", "toy/project.yaml", "toy/rows.py"]
    assert len(bed.mark()["entries"]) == 3


def test_a_source_that_fails_leaves_the_workspace_empty_and_is_asked_again(bed: Bed):
    rows = bed.settings.project_folder / "rows.py"
    rows.write_text("def rows(start, end): raise OSError('the database is away')\ndef features(frame): ...\n")
    with pytest.raises(DataError, match="the database is away"):
        seed(bed.settings)
    assert bed.files() == {}
    rows.write_text(ROWS)
    assert seed(bed.settings)


def test_the_controller_gives_to_each_open_cluster_once_and_ends_what_is_no_longer_wanted(bed: Bed, tmp_path: Path):
    now = 1000.0
    told = ControllerSettings(
        stack="local", stack_id="0123abcd", model="toy", store="", database="", signing_key=tmp_path,
        project=bed.settings.project, project_folder=bed.settings.project_folder, checkout=tmp_path,
        runtime=tmp_path / "runtime", cache=tmp_path, log_folder=tmp_path / "logs", token_path=tmp_path,
        node_address="127.0.0.9", leases=tmp_path / "leases",
    )  # fmt: skip
    seeds = Seeds(
        told, {"PASSWORD": "p"}, command=(sys.executable, "-c", "import time; time.sleep(60)"), clock=lambda: now
    )
    seeds.look()
    seeds.look()
    wait_until(lambda: _children(tmp_path))
    (child,) = _children(tmp_path)
    environment = child.environ()
    tag, _, value = str(bed.saver.processes_tag).partition("=")
    assert (environment["PASSWORD"], environment[tag]) == ("p", value), "an evacuation stops it like any writer"
    child.suspend()
    bed.tell("instance.json", sealed=True)
    seeds.look()
    assert _children(tmp_path) == []
    bed.tell("instance.json", sealed=False)
    seeds.look()
    assert _children(tmp_path) == [], "not at once again"
    now += AGAIN
    seeds.look()
    wait_until(lambda: len(_children(tmp_path)) == 1)
    seeds.stop()
    assert _children(tmp_path) == []

    real = Seeds(told, {}, clock=lambda: now)
    real.look()
    wait_until((bed.folder / "seeded.json").exists)
    real.look()
    real.stop()
    assert "toy/rows.py" in bed.files()
    (bed.folder / "seeded.json").unlink()
    for each in (bed.folder / "seeding", bed.saver.workspace):
        shutil.rmtree(each, ignore_errors=True)
    bed.saver.workspace.mkdir()
    real.look()
    wait_until((bed.folder / "seeded.json").exists)
    assert "toy/rows.py" in bed.files(), "another instance of it is given them at once"
    real.stop()
    Seeds(ControllerSettings(**{**told.model_dump(), "leases": None}), {}).look()


def _children(folder: Path) -> list[psutil.Process]:
    mine = psutil.Process(os.getpid()).children()
    return [each for each in mine if str(folder) in " ".join(each.cmdline()) and each.status() != psutil.STATUS_ZOMBIE]
