"""A restored version comes into a workspace whole or not at all, and never over anybody's work."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leased import Lab, Outcome, leased, picture
from stackyard.evacuation import arriving, restoring, versions
from stackyard.evacuation.__main__ import main
from stackyard.evacuation.cache import locked
from stackyard.evacuation.errors import EvacuationError
from stackyard.evacuation.failpoints import ARRIVING, RESTORING, VARIABLE
from stackyard.evacuation.settings import SaverSettings
from tally import Tally

KILLED = -9


def _work(folder: Path) -> None:
    (folder / "deep/er").mkdir(parents=True)
    (folder / "deep/er/model.bin").write_bytes(os.urandom(200_000))
    (folder / "notes.txt").write_text("mine\n")
    os.link(folder / "notes.txt", folder / "deep/again")
    (folder / "to").symlink_to("deep/er")
    Path(os.fsdecode(os.fsencode(folder) + b"/name\n\xff")).write_bytes(b"odd")
    (folder / "closed").mkdir()
    (folder / "closed/secret").write_text("s")
    os.utime(folder / "notes.txt", ns=(1, 1_234_567_890_123_456_789))
    (folder / "closed").chmod(0o500)
    (folder / "notes.txt").chmod(0o640)
    os.utime(folder, ns=(2, 1_000_000_000_000_000_002))


@pytest.fixture
def source(lab: Lab) -> Lab:
    """A stack whose cluster was saved and is gone, workspace and all."""
    _work(lab.workspace)
    lab.save()
    return lab


@pytest.fixture
def other(tmp_path: Path) -> Lab:
    """Another stack, with keys and a store of its own, and a cluster that was just opened."""
    (tmp_path / "other").mkdir()
    return leased(tmp_path / "other").with_(cluster="fresh", instance="i-2")


def brought(source: Lab, other: Lab, what: str = "latest", **environment: str) -> Outcome:
    into = other.base / "into.json"
    into.write_text(other.settings.model_dump_json())
    if environment:
        return source.command("restore", what, "--into", str(into), environment=environment)
    (other.base / "from.json").write_text(source.settings.model_dump_json())
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main(["restore", str(other.base / "from.json"), what, "--into", str(into), "--json"])
    return Outcome(code, json.loads(said.getvalue()), "")


def seeded(other: Lab, *names: str) -> None:
    entries = []
    for name in names:
        path = other.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("given")
        seen = path.lstat()
        entries.append([name, seen.st_size, seen.st_mtime_ns])
    other.workspace.with_name("seeded.json").write_text(json.dumps({"version": 1, "entries": entries}))


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("seeds", [(), ("notes.txt", "code/a.py")], ids=["empty", "untouched-seeds"])
def test_the_workspace_of_another_stack_becomes_the_saved_one_bit_for_bit(
    source: Lab, other: Lab, encrypted: bool, seeds: tuple[str, ...]
):
    if encrypted:
        source = source.with_(encrypt_key=str(source.base / "encrypt.key"))
        source.save()
    want, stands = picture(source.workspace), other.workspace.stat().st_ino
    seeded(other, *seeds)
    outcome = brought(source, other)
    assert (outcome.code, outcome.told["lesser"], outcome.told["target"]) == (0, [], str(other.workspace))
    assert picture(other.workspace) == want
    assert other.workspace.stat().st_ino == stands, "whoever stands in the folder still does"
    left = {path.name for path in other.base.iterdir()}
    assert not left & {".arriving", "..arriving.restoring", ".replaced"}
    assert other.save().newest.version.files == 5
    assert brought(source, other).told["code"] == "occupied"


def _another_file(folder: Path) -> None:
    (folder / "new").write_text("x")


def _an_empty_folder(folder: Path) -> None:
    (folder / "new").mkdir()


def _a_link(folder: Path) -> None:
    (folder / "new").symlink_to("/")


def _a_seed_written_to(folder: Path) -> None:
    with (folder / "code/a.py").open("a") as file:
        file.write("more")


def _a_seed_of_the_same_size(folder: Path) -> None:
    (folder / "code/a.py").write_text("taken")


def _beside_a_seed(folder: Path) -> None:
    (folder / "code/b.py").write_text("x")


def _a_folder_for_a_seed(folder: Path) -> None:
    (folder / "code/a.py").unlink()
    (folder / "code/a.py").mkdir()
    (folder / "code/a.py/mine").write_text("x")


TOUCHED = (_another_file, _an_empty_folder, _a_link, _a_seed_written_to, _a_seed_of_the_same_size, _beside_a_seed,
           _a_folder_for_a_seed)  # fmt: skip


@pytest.mark.parametrize("touch", TOUCHED, ids=lambda each: each.__name__.strip("_"))
def test_nothing_is_restored_over_somebodys_work(source: Lab, other: Lab, touch: Callable[[Path], None]):
    seeded(other, "code/a.py")
    touch(other.workspace)
    before = picture(other.workspace)
    outcome = brought(source, other)
    assert (outcome.code, outcome.told["code"]) == (1, "occupied")
    assert "\n" not in outcome.told["reason"]
    assert picture(other.workspace) == before


def test_work_that_appears_while_a_version_is_fetched_stays(source: Lab, other: Lab, monkeypatch: pytest.MonkeyPatch):
    def slow(*arguments: Any, **more: Any) -> restoring.Restored:
        (other.workspace / "meanwhile").write_text("x")
        return restoring.restore(*arguments, **more)

    monkeypatch.setattr(arriving, "restore", slow)
    with pytest.raises(EvacuationError, match="meanwhile"):
        _bring(source, other)
    assert os.listdir(other.workspace) == ["meanwhile"]
    assert not (other.base / ".arriving").exists()


def test_a_file_made_in_the_instant_of_the_move_is_kept_and_what_came_lies_beside_it(
    source: Lab, other: Lab, monkeypatch: pytest.MonkeyPatch
):
    def late(top: bytes, _seeded: Any) -> None:
        if top.endswith(b".replaced"):
            (other.workspace / "notes.txt").write_text("theirs")

    monkeypatch.setattr(arriving, "_untouched", late)
    result = _bring(source, other)
    assert (other.workspace / "notes.txt").read_text() == "theirs"
    assert (other.workspace / "notes.txt.restored").read_text() == "mine\n"
    assert [path for path, _ in result.lesser] == [b"notes.txt.restored"]


@pytest.mark.parametrize("next_one", ["save", pytest.param("restore", marks=pytest.mark.slow)])
@pytest.mark.parametrize("place", [*RESTORING, *ARRIVING])
def test_a_restore_killed_anywhere_is_never_saved_by_half(
    source: Lab, other: Lab, tally: Tally, place: str, next_one: str
):
    """Slow: processes; twice, since either may be the next to come."""
    want = picture(source.workspace)
    seeded(other, "notes.txt", "code/a.py")
    before = picture(other.workspace)
    killed = brought(source, other, **{VARIABLE: place}).code == KILLED
    moved = place in ("arrival-moving", "arrived")
    if next_one == "save":
        version = other.save().newest.version
        assert (version.files, picture(other.workspace)) == ((5, want) if moved else (2, before))
    again = brought(source, other)
    assert again.told.get("code") == ("occupied" if moved and next_one == "save" else None)
    assert not [path.name for path in other.base.iterdir() if path.name.startswith(".")]
    wrong = "" if picture(other.workspace) == want else "what was restored differs"
    tally.kill("arrive", place, then=next_one, killed=killed, wrong=wrong)


@pytest.mark.parametrize("what", ["removed", "a-link-to-a-folder-of-mine"])
def test_work_after_a_killed_restore_stops_no_save(source: Lab, other: Lab, what: str):
    assert brought(source, other, **{VARIABLE: "arrived"}).code == KILLED
    (mine := other.base / "mine").mkdir(mode=0o755)
    (other.workspace / "closed").chmod(0o700)
    shutil.rmtree(other.workspace / "closed")
    if what != "removed":
        (other.workspace / "closed").symlink_to(mine)
    assert other.save().unsaved == []
    assert mine.stat().st_mode & 0o777 == 0o755
    assert not (other.settings.state / "arriving.json").exists()


def test_a_save_waits_while_a_version_moves_in_and_one_restore_runs_at_a_time(source: Lab, other: Lab):
    with locked(other.settings.state, "restore.lock"):
        assert brought(source, other).told["code"] == "busy"
    with locked(other.settings.state):
        thread = threading.Thread(target=_bring, args=(source, other))
        thread.start()
        time.sleep(0.2)
        assert os.listdir(other.workspace) == []
    thread.join()
    assert len(os.listdir(other.workspace)) == 5
    descriptor = os.open(other.settings.state / "lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_a_sealed_workspace_takes_nothing(source: Lab, other: Lab):
    assert other.command("evacuate").code == 0
    outcome = brought(source, other)
    assert outcome.code == 1 and "is sealed by" in outcome.told["reason"]
    assert os.listdir(other.workspace) == []


def test_a_restore_goes_to_one_place(source: Lab, other: Lab):
    assert source.command("restore", "latest").code == 2
    (other.base / "into.json").write_text(other.settings.model_dump_json())
    both = ["restore", "latest", str(other.base / "x"), "--into", str(other.base / "into.json")]
    assert source.command(*both).code == 2


def _bring(source: Lab, other: Lab) -> restoring.Restored:
    from stackyard.evacuation.blobs import Coder
    from stackyard.evacuation.saving import opened

    settings: SaverSettings = source.settings
    store = opened(settings)
    found = versions.newest(store, settings.cluster, settings.trusted_keys)
    assert found is not None
    return arriving.bring(settings, store, Coder.of(None), found, other.settings, lambda _: None)
