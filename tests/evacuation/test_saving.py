"""What is saved comes back as it was, and whatever is not saved is named."""

from __future__ import annotations

import mmap
import os
import random
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leased import Lab, picture
from stackyard.evacuation import copying, looking, restoring, versions
from stackyard.evacuation.blobs import Coder
from stackyard.evacuation.cache import RESERVE, Cache
from stackyard.evacuation.errors import StoreAwayError, StoreFullError
from stackyard.evacuation.listing import Writer
from stackyard.evacuation.saving import Saver, cache_of, opened
from stackyard.evacuation.verifying import verify
from stackyard.store.objects import Store

OLD = 1_500_000_000_123_456_789


def brought_back(lab: Lab, name: str = "back") -> Path:
    store, coder = opened(lab.settings), Coder.of(lab.settings.encrypt_key)
    found = versions.newest(store, lab.settings.cluster, lab.settings.trusted_keys)
    assert found is not None
    target = lab.base / name
    outcome = restoring.restore(lab.settings, store, coder, found, target)
    assert (outcome.damaged, outcome.lesser) == ([], [])
    return target


def strange_names(workspace: Path) -> None:
    top = os.fsencode(workspace)
    for name in [b"a\nb", b"\xff\xfe", b" ", b'"quoted"', b"-rf", b"\x01", "Überraschung".encode(), b"again"]:
        Path(os.fsdecode(os.path.join(top, name))).write_bytes(name)


def links(workspace: Path) -> None:
    (workspace / "one").write_bytes(b"1" * 5000)
    (workspace / "deep" / "er").mkdir(parents=True)
    os.link(workspace / "one", workspace / "deep" / "er" / "two")
    os.link(workspace / "one", workspace / "three")
    os.symlink(".", workspace / "loop")
    os.symlink("../deep", workspace / "deep" / "again")
    os.symlink(b"nowhere\xff", os.fsencode(workspace / "broken"))
    os.utime(workspace / "broken", ns=(OLD, OLD), follow_symlinks=False)


def permissions(workspace: Path) -> None:
    for mode in (0o400, 0o777, 0o4755, 0o600):
        place = workspace / f"{mode:o}"
        place.write_text(str(mode))
        place.chmod(mode)
        os.utime(place, ns=(OLD, OLD + mode))
    shut = workspace / "shut"
    shut.mkdir()
    (shut / "inside").write_text("x")
    os.utime(shut, ns=(OLD, OLD))
    shut.chmod(0o555)


def sizes(workspace: Path) -> None:
    rng = random.Random(1)
    for size in (0, 1, copying.WHOLE - 1, copying.WHOLE, copying.WHOLE + 1, 6 << 20):
        (workspace / str(size)).write_bytes(rng.randbytes(size))
    with (workspace / "holes").open("wb") as file:
        file.seek(20 << 20)
        file.write(b"end")
    (workspace / "empty").mkdir()


TREES: dict[str, Callable[[Path], None]] = {
    "strange-names": strange_names,
    "links": links,
    "permissions-and-times": permissions,
    "sizes": sizes,
    "nothing": lambda workspace: None,
}


@pytest.mark.parametrize("encrypted", [False, True], ids=["in-clear", "encrypted"])
@pytest.mark.parametrize("make", TREES.values(), ids=TREES.keys())
def test_a_restored_workspace_is_the_saved_one(lab: Lab, make: Callable[[Path], None], encrypted: bool) -> None:
    lab = lab.with_(encrypt_key=str(lab.base / "encrypt.key")) if encrypted else lab
    make(lab.workspace)
    want = picture(lab.workspace)
    saved = lab.save()
    assert (saved.unsaved, saved.left_out) == ([], [])
    assert picture(brought_back(lab)) == want
    proof = verify(lab.settings, opened(lab.settings), Coder.of(lab.settings.encrypt_key), saved.newest)
    assert proof.whole


def test_holes_stay_holes(lab: Lab) -> None:
    sizes(lab.workspace)
    lab.save()
    assert (brought_back(lab) / "holes").stat().st_blocks * 512 < 8 << 20


NAMES = st.sampled_from(["a", "b", "c d", "é", "\udcff", "x\ny"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "append", "folder", "link", "again", "remove", "mode", "move", "time"]),
        st.lists(NAMES, min_size=1, max_size=3),
        st.lists(NAMES, min_size=1, max_size=3),
        st.integers(0, 3_000_000),
    ),
    max_size=12,
)


def take(workspace: Path, step: tuple[str, list[str], list[str], int]) -> None:
    """One thing that somebody may do; what cannot be done is not."""
    verb, one, other, number = step
    place, second = workspace.joinpath(*one), workspace.joinpath(*other)
    try:
        match verb:
            case "write":
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(random.Random(number).randbytes(number))
            case "append":
                with place.open("ab") as file:
                    file.write(b"more")
            case "folder":
                place.mkdir(parents=True)
            case "link":
                os.symlink(os.fsencode(second), os.fsencode(place))
            case "again":
                os.link(place, second)
            case "remove":
                subprocess.run(["rm", "-rf", "--", os.fsencode(place)], check=True)
            case "mode":
                place.chmod(0o700 if place.is_dir() else number & 0o777 | 0o400)
            case "move":
                place.rename(second)
            case _:
                os.utime(place, ns=(number, number), follow_symlinks=False)
    except OSError:
        return


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=STEPS, then=STEPS)
def test_whatever_is_done_between_two_saves_the_second_holds_the_workspace_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, lab: Lab, first: Any, then: Any
) -> None:
    base = tmp_path_factory.mktemp("world")
    (base / "workspace").mkdir()
    here = Lab(
        base,
        lab.with_(workspace=str(base / "workspace"), store=str(base / "store"), state=str(base / "state")).settings,
    )
    for step in first:
        take(here.workspace, step)
    assert here.save().unsaved == []
    for step in then:
        take(here.workspace, step)
    want = picture(here.workspace)
    assert here.save().unsaved == []
    assert picture(brought_back(here)) == want


def test_an_unchanged_workspace_is_not_read_and_makes_no_version(lab: Lab) -> None:
    links(lab.workspace)
    sizes(lab.workspace)
    _settle(lab)
    first = lab.save()
    second = lab.save()
    assert (first.made, second.made, second.read, second.stored) == (True, False, 0, 0)
    assert second.newest == first.newest


def test_a_change_costs_what_changed(lab: Lab) -> None:
    data = random.Random(7).randbytes(12 << 20)
    (lab.workspace / "large").write_bytes(data)
    _settle(lab)
    lab.save()
    (lab.workspace / "large").write_bytes(data[: 6 << 20] + b"!" + data[6 << 20 :])
    second = lab.save()
    assert second.made
    assert second.stored < 9 << 20
    assert second.newest.version.previous is not None


def test_equal_files_are_stored_once(lab: Lab) -> None:
    for name in "abc":
        (lab.workspace / name).write_bytes(random.Random(8).randbytes(1 << 19))
    assert lab.save().stored < 1 << 20


def test_a_change_that_shows_in_no_time_is_found(lab: Lab) -> None:
    """A file written twice within one tick of the clock looks unchanged; it is read again all the same."""
    place = lab.workspace / "quick"
    place.write_bytes(b"one")
    seen = place.stat()
    lab.save()
    place.write_bytes(b"two")
    os.utime(place, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    lab.save()
    assert (brought_back(lab) / "quick").read_bytes() == b"two"


def test_memory_mapped_from_a_file_is_read_each_time(lab: Lab) -> None:
    place = lab.workspace / "array"
    place.write_bytes(bytes(8192))
    with place.open("r+b") as file, mmap.mmap(file.fileno(), 8192) as memory:
        memory[0] = 1
        lab.save()
        _settle(lab)
        lab.save()
        memory[1] = 2
        lab.save()
    assert (brought_back(lab) / "array").read_bytes()[:2] == b"\1\2"


def test_without_its_memory_the_saver_stores_nothing_twice_that_it_finds_in_a_listing_and_loses_nothing(
    lab: Lab,
) -> None:
    links(lab.workspace)
    lab.save()
    want = picture(lab.workspace)
    subprocess.run(["rm", "-rf", str(lab.settings.state)], check=True)
    (lab.workspace / "new").write_text("n")
    (lab.workspace / "new").unlink()
    want[b"."][1] = lab.workspace.stat().st_mtime_ns
    assert lab.save().unsaved == []
    assert picture(brought_back(lab)) == want


RULES = {
    "a-pattern-of-the-last-part": ({"exclude": ["*.tmp"]}, {"a.tmp", "deep/b.tmp"}),
    "a-folder": ({"exclude": ["deep"]}, {"deep"}),
    "a-path": ({"exclude": ["deep/b.*"]}, {"deep/b.tmp"}),
    "too-large": ({"largest": 10}, {"large"}),
    "kept-all-the-same": ({"exclude": ["*.tmp"], "include": ["deep/*"]}, {"a.tmp"}),
    "kept-although-large": ({"largest": 10, "include": ["large"]}, set()),
}


@pytest.mark.parametrize(("rules", "want"), RULES.values(), ids=RULES.keys())
def test_what_rules_leave_out_is_named_with_its_rule(lab: Lab, rules: dict[str, Any], want: set[str]) -> None:
    (lab.workspace / "deep").mkdir()
    for name in ("a.tmp", "deep/b.tmp", "deep/c"):
        (lab.workspace / name).write_text("x")
    (lab.workspace / "large").write_bytes(bytes(11))
    saved = lab.with_(**rules).save()
    assert {each.path.decode() for each in saved.left_out} == want
    assert saved.unsaved == []
    back = brought_back(lab)
    assert not any((back / name).exists() for name in want)


def test_what_holds_nothing_to_save_is_named(lab: Lab) -> None:
    os.mkfifo(lab.workspace / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(lab.workspace)  # a socket's path ends at 107 bytes
        server.bind("socket")
        os.chdir(Path(__file__).parent)
    saved = lab.save()
    assert {(each.path, each.rule) for each in saved.left_out} == {
        (b"fifo", "a fifo holds nothing to save"),
        (b"socket", "a socket holds nothing to save"),
    }
    assert saved.unsaved == []


class Spoiled(Store):
    """A store that raises when content is written."""

    error: OSError

    def create(self, key: str, data: bytes) -> bool:
        raise self.error


def spoiled(lab: Lab, error: OSError) -> Store:
    inner = opened(lab.settings)
    found = Spoiled(inner._backend, inner.url)
    found.error = error
    return found


@pytest.mark.parametrize(
    ("error", "want"),
    [(OSError(28, "No space left on device"), StoreFullError), (OSError(5, "Input/output error"), StoreAwayError)],
    ids=["full", "away"],
)
def test_a_store_that_takes_nothing_ends_the_save_and_the_next_one_saves_everything(
    lab: Lab, error: OSError, want: type[Exception]
) -> None:
    sizes(lab.workspace)
    with pytest.raises(want):
        Saver(lab.settings, spoiled(lab, error)).save()
    assert versions.newest(opened(lab.settings), "bench", lab.settings.trusted_keys) is None
    assert lab.save().unsaved == []
    assert picture(brought_back(lab)) == picture(lab.workspace)


def test_a_store_that_lost_what_was_saved_is_not_taken_for_an_empty_one(lab: Lab) -> None:
    sizes(lab.workspace)
    lab.save()
    lab.store.rename(lab.base / "elsewhere")
    with pytest.raises(StoreAwayError, match="is it mounted"):
        lab.save()
    lab.store.mkdir()
    with pytest.raises(StoreAwayError, match="lacks version 1"):
        lab.save()


def test_a_file_that_cannot_be_read_is_named_and_its_earlier_copy_kept(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = lab.workspace / "secret"
    place.write_text("first")
    (lab.workspace / "other").write_text("o")
    lab.save()
    place.write_text("second")
    whole = copying._once

    def refusing(entry: Any, folder: int, packer: Any) -> Any:
        if entry.name == b"secret":
            raise PermissionError(13, "Permission denied")
        return whole(entry, folder, packer)

    monkeypatch.setattr(copying, "_once", refusing)
    saved = lab.save()
    assert [(each.path, each.code) for each in saved.unsaved] == [(b"secret", "unreadable")]
    assert "as it was before" in saved.unsaved[0].reason
    assert saved.newest.version.unsaved == 1
    assert (brought_back(lab) / "secret").read_text() == "first"
    monkeypatch.undo()
    assert lab.save().unsaved == []
    assert (brought_back(lab, "later") / "secret").read_text() == "second"


@pytest.mark.parametrize(
    ("spoil", "code", "restored"),
    [
        (lambda path: path.open("ab").write(b"+"), "growing", True),
        (os.utime, "changing", False),
        (lambda path: os.truncate(path, path.stat().st_size - 1), "changing", False),
    ],
    ids=["grows", "changes", "shrinks"],
)
def test_a_file_that_never_holds_still_is_named(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], Any], code: str, restored: bool
) -> None:
    place = lab.workspace / "log"
    place.write_bytes(b"l" * 100)
    whole, tries = copying.content, []

    def meddling(descriptor: int, size: int, packer: Any) -> Any:
        found = whole(descriptor, size, packer)
        tries.append(size)
        spoil(place)
        return found

    monkeypatch.setattr(copying, "content", meddling)
    saved = Saver(lab.settings, pause=lambda seconds: None).save()
    assert [(each.path, each.code) for each in saved.unsaved] == [(b"log", code)]
    assert len(tries) == copying.TRIES
    back = brought_back(lab)
    assert (back / "log").exists() is restored
    if restored:
        assert (back / "log").read_bytes() == (b"l" * 100 + b"++")


def test_a_file_that_changes_once_while_it_is_copied_is_copied_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    place = lab.workspace / "table"
    place.write_bytes(b"a" * 100)
    whole, tries = copying.content, []

    def meddling(descriptor: int, size: int, packer: Any) -> Any:
        found = whole(descriptor, size, packer)
        if not tries:
            place.write_bytes(b"b" * 100)
            os.utime(place, ns=(OLD, OLD))
        tries.append(size)
        return found

    monkeypatch.setattr(copying, "content", meddling)
    assert Saver(lab.settings, pause=lambda seconds: None).save().unsaved == []
    assert (brought_back(lab) / "table").read_bytes() == b"b" * 100


def test_of_checkpoints_of_which_the_last_are_kept_some_are_saved_however_fast_they_come_and_go(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who trains goes on while a folder is walked: what was listed is gone when it is read, and another is there."""
    folder, whole, reads = lab.workspace / "checkpoints", copying._once, []
    folder.mkdir()
    (folder / "step-0").write_bytes(b"0")

    def meddling(entry: Any, descriptor: int, packer: Any) -> Any:
        if entry.name.startswith(b"step-"):
            reads.append(entry.name)
            if len(reads) < 4:
                (folder / os.fsdecode(entry.name)).unlink()
                (folder / f"step-{len(reads)}").write_bytes(b"%d" % len(reads))
        return whole(entry, descriptor, packer)

    monkeypatch.setattr(copying, "_once", meddling)
    saved = lab.save()
    assert saved.unsaved == []
    assert [path.name for path in (brought_back(lab) / "checkpoints").iterdir()] == ["step-3"]
    monkeypatch.undo()
    _settle(lab)
    assert lab.save().newest.version.files == 1
    assert (lab.save().made, lab.save().read) == (False, 0)


def test_any_flipped_bit_in_the_store_is_found_named_and_mended_by_the_next_save(lab: Lab) -> None:
    rng = random.Random(3)
    sizes(lab.workspace)
    for number in range(30):
        (lab.workspace / f"n{number}").write_bytes(rng.randbytes(300))
    saved = lab.save()
    store, coder = opened(lab.settings), Coder()
    for pack in lab.packs():
        whole = pack.read_bytes()
        for _ in range(4):
            place = rng.randrange(len(whole))
            broken = bytearray(whole)
            broken[place] ^= 1 << rng.randrange(8)
            pack.write_bytes(bytes(broken))
            proof = verify(lab.settings, store, coder, saved.newest)
            assert not proof.whole
        pack.write_bytes(whole)
    assert verify(lab.settings, store, coder, saved.newest).whole
    pack = max(lab.packs(), key=lambda path: path.stat().st_size)
    pack.write_bytes(pack.read_bytes()[:-100])
    outcome = lab.command("verify")
    assert outcome.code == 1
    assert outcome.told["losses"]
    mended = lab.save()
    assert verify(lab.settings, store, coder, mended.newest).whole
    assert picture(brought_back(lab)) == picture(lab.workspace)


def test_a_manifest_of_another_hand_is_passed_over(lab: Lab) -> None:
    (lab.workspace / "a").write_text("1")
    first = lab.save()
    forged = lab.store / "workspaces/bench/versions/00000002.json"
    forged.write_bytes((lab.store / "workspaces/bench/versions/00000001.json").read_bytes())
    (lab.workspace / "a").write_text("2")
    second = lab.save()
    assert (second.newest.version.number, second.newest.version.previous) == (3, first.newest.digest)


def test_of_two_savers_both_versions_are_kept(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    (lab.workspace / "a").write_text("1")
    other = lab.with_(state=str(lab.base / "state-2"))
    before = versions.numbers
    once: list[int] = []

    def late(store: Store, cluster: str) -> list[int]:
        found = before(store, cluster)
        if not once:
            once.append(1)
            other.save()
        return found

    lab.save()
    (lab.workspace / "a").write_text("2")
    monkeypatch.setattr(versions, "numbers", late)
    saved = lab.save()
    assert saved.newest.version.number in (2, 3)
    assert verify(lab.settings, opened(lab.settings), Coder(), saved.newest).whole


def test_nothing_of_an_encrypted_workspace_is_in_the_store_in_clear(lab: Lab) -> None:
    lab = lab.with_(encrypt_key=str(lab.base / "encrypt.key"), exclude=["left-out-name"])
    (lab.workspace / "telling-name").write_text("telling content " * 50)
    (lab.workspace / "left-out-name").write_text("x")
    lab.save()
    stored = b"".join(path.read_bytes() for path in lab.store.rglob("*") if path.is_file())
    assert b"telling" not in stored
    assert b"left-out" not in stored
    outcome = lab.with_(encrypt_key=None).command("restore", "latest", str(lab.base / "back"))
    assert (outcome.code, outcome.told["code"]) == (2, "settings")


def test_repositories_with_work_of_their_own_are_named(lab: Lab) -> None:
    place = lab.workspace / "code"
    place.mkdir()
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-C", str(place)]
    subprocess.run([*git, "init", "-q"], check=True)
    (place / "a").write_text("1")
    subprocess.run([*git, "add", "a"], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)
    (place / "b").write_text("2")
    found = lab.save().repositories
    assert [(each.path, each.uncommitted, each.unpushed, each.stashed) for each in found] == [("code", 1, 1, 0)]
    assert lab.save().repositories == found


def test_extras_belong_to_a_version_and_one_that_is_missing_is_named(lab: Lab) -> None:
    (lab.base / "history").write_text("job 1 ended")
    extras = {"jobs": {"file": str(lab.base / "history")}, "logs": {"file": str(lab.base / "nothing")}}
    lab = lab.with_(extras=extras)
    saved = lab.save()
    assert [each.path for each in saved.left_out] == [b"extra logs"]
    outcome = lab.command("restore", "latest", str(lab.base / "back"), "--extras", str(lab.base / "beside"))
    assert outcome.code == 0
    assert (lab.base / "beside" / "jobs").read_text() == "job 1 ended"


@pytest.mark.parametrize("pip", [True, False], ids=["with-pip", "without-pip"])
def test_what_is_installed_is_an_extra_with_and_without_pip(lab: Lab, pip: bool) -> None:
    python = lab.base / "python"
    refuse = "" if pip else '[ "$1" = -m ] && exit 1\n'
    python.write_text(f'#!/bin/sh\n{refuse}exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    lab = lab.with_(extras={"environment": {"freeze": str(python)}})
    assert lab.save().unsaved == []
    outcome = lab.command("restore", "latest", str(lab.base / "back"), "--extras", str(lab.base / "beside"))
    assert outcome.code == 0
    assert "pydantic==" in (lab.base / "beside" / "environment").read_text()


def test_memory_does_not_grow_with_the_listing_or_the_pack(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines wait for the pack of an entry before them; there may never be more than a few thousand of them."""
    for number in range(6000):
        (lab.workspace / f"f{number:05}").write_bytes(b"%d" % number)
    longest = 0
    whole = Writer.add

    def watching(self: Writer, *arguments: Any) -> Any:
        nonlocal longest
        found = whole(self, *arguments)
        longest = max(longest, len(self._waiting))
        return found

    monkeypatch.setattr(Writer, "add", watching)
    assert lab.save().newest.version.files == 6000
    assert longest <= 4097


def test_a_folder_that_cannot_be_opened_is_named(lab: Lab) -> None:
    """Deeper than a path can be long, which stops even a super-user."""
    start, name = os.open(".", os.O_RDONLY), "d" * 250
    os.chdir(lab.workspace)
    for _ in range(20):
        os.mkdir(name)
        os.chdir(name)
    Path("file").write_text("x")
    os.fchdir(start)
    os.close(start)
    saved = lab.save()
    assert [each.code for each in saved.unsaved] == ["unreadable"]
    assert "File name too long" in saved.unsaved[0].reason


def test_what_is_not_saved_yet_is_found_by_looking(lab: Lab) -> None:
    (lab.workspace / "a").write_text("1")
    _settle(lab)
    lab.save()
    cache = cache_of(lab.settings, Coder())
    assert looking.look(lab.settings, cache, strict=True).count == 0
    (lab.workspace / "b").write_text("22")
    found = looking.look(lab.settings, cache, strict=True)
    cache.close()
    assert {each.path for each in found.named} == {b"", b"b"}
    assert found.size == 2


def _settle(lab: Lab) -> None:
    """Return once everything in the workspace is older than a tick of the clock."""
    newest = max(path.lstat().st_ctime_ns for path in [lab.workspace, *lab.workspace.rglob("*")])
    while time.time_ns() < newest + 50_000_000:
        time.sleep(0.005)


@pytest.mark.parametrize("refusals", [1, 2], ids=["the-reserve-helps", "nothing-helps"])
def test_a_full_disk_under_the_saver_itself_keeps_nothing_from_the_store(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    links(lab.workspace)
    _settle(lab)
    lab.save()
    assert (lab.settings.state / "reserve").stat().st_size == RESERVE
    (lab.workspace / "new").write_text("n")
    whole, left = Cache.commit, refusals

    def refusing(self: Cache) -> None:
        nonlocal left
        if left and self._path is not None:
            left -= 1
            raise sqlite3.OperationalError("database or disk is full")
        whole(self)

    monkeypatch.setattr(Cache, "commit", refusing)
    saved = lab.save()
    assert (saved.unsaved, saved.newest.version.unsaved, left) == ([], 0, 0)
    assert not (lab.settings.state / "reserve").exists()
    monkeypatch.undo()
    assert picture(brought_back(lab)) == picture(lab.workspace)
