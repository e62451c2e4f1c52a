"""A workspace may go when everything in it is proven to be safe, or somebody chose to lose it; else it goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leased import Lab, picture
from stackyard.evacuation import copying, evacuating, receipts, saving, versions
from stackyard.evacuation.errors import EvacuationError
from stackyard.evacuation.evacuating import Refused, allowed, evacuate, sealed, suspend, thaw
from stackyard.evacuation.freezing import Freezer
from stackyard.evacuation.saving import opened
from stackyard.store.documents import public_text
from stackyard.store.keys import ensure_signing_key
from stackyard.store.objects import Store


@pytest.fixture
def filled(lab: Lab) -> Lab:
    (lab.workspace / "notes").mkdir()
    (lab.workspace / "notes" / "one.ipynb").write_text("{}")
    (lab.workspace / "features").write_bytes(os.urandom(3 << 20))
    return lab


def test_an_evacuated_workspace_may_go_and_comes_back_as_it_was(filled: Lab) -> None:
    want = picture(filled.workspace)
    given = evacuate(filled.settings)
    assert given.body.fits(filled.settings)
    assert (given.body.files, given.body.left_out) == (2, 0)
    assert (sealed(filled.settings) or {})["receipt"] == given.place
    assert allowed(filled.settings).receipt == given
    assert evacuate(filled.settings) == given
    outcome = filled.command("restore", given.place, str(filled.base / "back"))
    assert outcome.code == 0
    assert picture(filled.base / "back") == want


@pytest.mark.parametrize(
    ("seconds", "proven"), [(3600.0, True), (30.0, False)], ids=["by-an-hour", "a-disk-whose-clock-is-ahead"]
)
def test_a_clock_that_was_set_back_keeps_nothing_from_being_proven(
    filled: Lab, monkeypatch: pytest.MonkeyPatch, seconds: float, proven: bool
) -> None:
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() - int(seconds * 1e9))
    if not proven:
        with pytest.raises(Refused, match="still writes"):
            evacuate(filled.settings)
        return
    given = evacuate(filled.settings)
    assert allowed(filled.settings).receipt == given
    (filled.workspace / "features").write_bytes(os.urandom(3 << 20))
    assert allowed(filled.settings).losses[0].path == b"features", "what changes then is seen"


def test_a_suspended_workspace_is_safe_and_stands_still_but_may_not_go(filled: Lab) -> None:
    want = picture(filled.workspace)
    safe = suspend(filled.settings)
    assert (safe.saved.newest.version.files, safe.proof.whole) == (2, True)
    assert (sealed(filled.settings), allowed(filled.settings).allowed) == (None, False)
    assert thaw(filled.settings) == []
    outcome = filled.command("restore", "latest", str(filled.base / "back"))
    assert outcome.code == 0
    assert picture(filled.base / "back") == want


def test_what_is_sealed_is_not_suspended(filled: Lab) -> None:
    evacuate(filled.settings)
    with pytest.raises(EvacuationError, match="sealed by"):
        suspend(filled.settings)


def test_a_suspension_that_cannot_save_lets_everybody_go_on(filled: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    away(filled, monkeypatch)
    with pytest.raises(Refused):
        suspend(filled.settings)
    assert Freezer(filled.settings).frozen() == []


def test_a_sealed_workspace_is_not_thawed_but_by_its_next_generation(filled: Lab) -> None:
    evacuate(filled.settings)
    with pytest.raises(EvacuationError, match="sealed by"):
        thaw(filled.settings)
    after = filled.with_(generation=2)
    assert thaw(after.settings) == []
    assert sealed(after.settings) is None
    assert not allowed(after.settings).allowed


def working_on(lab: Lab) -> None:
    (lab.workspace / "notes" / "two.ipynb").write_text("{}")


def changing(lab: Lab) -> None:
    (lab.workspace / "features").write_bytes(b"less")


def touching(lab: Lab) -> None:
    (lab.workspace / "features").chmod(0o640)


def saving_later(lab: Lab) -> None:
    (lab.workspace / "features").write_bytes(b"less")
    lab.save()


@pytest.mark.parametrize("work", [working_on, changing, touching, saving_later])
def test_a_receipt_ends_with_the_first_change_after_it(filled: Lab, work: Callable[[Lab], None]) -> None:
    evacuate(filled.settings)
    work(filled)
    found = allowed(filled.settings)
    assert not found.allowed
    assert found.reasons
    evacuate(filled.settings)
    assert allowed(filled.settings).allowed


@pytest.mark.parametrize(
    "other", [{"instance": "i-2"}, {"generation": 2}, {"cluster": "another"}], ids=["instance", "generation", "cluster"]
)
def test_a_receipt_speaks_of_one_instance_and_generation(filled: Lab, other: dict[str, Any]) -> None:
    evacuate(filled.settings)
    assert not allowed(filled.with_(**other).settings).allowed


def test_a_receipt_of_another_hand_says_nothing(filled: Lab) -> None:
    stranger = ensure_signing_key(filled.base / "stranger")
    forged = filled.with_(
        receipt_key=str(filled.base / "stranger"),
        trusted_keys=[public_text(stranger.public_key())],
        state=str(filled.base / "state-2"),
    )
    evacuate(forged.settings)
    assert not allowed(filled.settings).allowed


def test_a_receipt_for_a_version_that_is_gone_says_nothing(filled: Lab) -> None:
    given = evacuate(filled.settings)
    (filled.store / f"workspaces/bench/versions/{given.body.workspace:08d}.json").unlink()
    assert not allowed(filled.settings).allowed


def test_a_workspace_that_is_gone_after_its_receipt_may_go(filled: Lab) -> None:
    evacuate(filled.settings)
    filled.workspace.rename(filled.base / "moved")
    assert allowed(filled.settings).allowed


def unreadable(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = copying._once

    def refusing(entry: Any, *rest: Any) -> Any:
        if entry.name == b"features":
            raise PermissionError(13, "Permission denied")
        return whole(entry, *rest)

    monkeypatch.setattr(copying, "_once", refusing)


def growing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = copying.content

    def meddling(descriptor: int, size: int, packer: Any) -> Any:
        found = whole(descriptor, size, packer)
        if size > 1000:
            with (lab.workspace / "features").open("ab") as file:
                file.write(b"+")
        return found

    monkeypatch.setattr(copying, "content", meddling)


def damaged(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.save()
    pack = max(lab.packs(), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 4
    pack.write_bytes(bytes(data))


def away(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.save()
    (lab.workspace / "features").write_bytes(b"newer")
    lab.store.rename(lab.base / "unmounted")


def full(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(self: Store, key: str, data: bytes) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "create", refusing)


def written_by_a_stranger(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evacuating._still

    def late(settings: Any, coder: Any) -> None:
        (lab.workspace / "features").write_bytes(b"newer")
        whole(settings, coder)

    monkeypatch.setattr(evacuating, "_still", late)


@pytest.mark.parametrize(
    ("trouble", "code", "path"),
    [
        (unreadable, "unreadable", "features"),
        (growing, "growing", "features"),
        (damaged, "damaged", "features"),
        (away, "changed", "features"),
        (full, "new", "features"),
        (written_by_a_stranger, "changed", "features"),
    ],
    ids=["unreadable-file", "growing-file", "bit-flipped", "store-away", "store-full", "stranger-writes"],
)
def test_an_evacuation_that_cannot_prove_everything_is_refused_with_what_would_be_lost(
    filled: Lab,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Callable[[Lab, pytest.MonkeyPatch], None],
    code: str,
    path: str,
) -> None:
    trouble(filled, monkeypatch)
    with pytest.raises(Refused) as refusal:
        evacuate(filled.settings, pause=lambda seconds: None)
    assert (path, code) in {(each.path.decode(), each.code) for each in refusal.value.losses}
    assert Freezer(filled.settings).frozen() == []
    assert sealed(filled.settings) is None
    monkeypatch.undo()
    if trouble is away:
        (filled.base / "unmounted").rename(filled.store)
    assert not allowed(filled.settings).allowed
    evacuate(filled.settings)
    assert allowed(filled.settings).allowed


def test_a_discard_lets_one_generation_go_unsaved(filled: Lab) -> None:
    outcome = filled.command("discard", "--because", "a copy of public data", "--by", "ann")
    assert outcome.code == 0
    found = filled.command("receipt")
    assert (found.code, found.told["discard"]["because"], found.told["receipt"]) == (0, "a copy of public data", None)
    assert filled.with_(generation=2).command("receipt").code == 1
    assert filled.with_(instance="i-2").command("receipt").code == 1


def test_a_discard_rests_beside_the_state_while_the_store_is_away(filled: Lab) -> None:
    filled.save()
    filled.store.rename(filled.base / "unmounted")
    outcome = filled.command("discard", "--because", "the disk is broken")
    assert outcome.code == 0
    assert Path(outcome.told["discard"]).is_relative_to(filled.settings.state)
    assert filled.command("receipt").code == 0


def test_the_receipt_says_when_store_and_workspace_share_a_disk(filled: Lab) -> None:
    assert evacuate(filled.settings).body.same_disk is True


def test_receipts_are_never_replaced(filled: Lab) -> None:
    first = evacuate(filled.settings)
    working_on(filled)
    second = evacuate(filled.settings)
    assert first.place != second.place
    store = opened(filled.settings)
    assert [each.place for each in receipts.receipts(filled.settings, store)] == [second.place, first.place]
    assert len(versions.numbers(store, "bench")) == 2


def test_rules_of_the_receipt_are_those_it_was_made_under(filled: Lab) -> None:
    given = evacuate(filled.with_(exclude=["*.tmp"], largest=1 << 30).settings)
    assert (given.body.exclude, given.body.largest) == (["*.tmp"], 1 << 30)


def test_a_key_that_others_can_read_signs_nothing(filled: Lab) -> None:
    filled.settings.receipt_key.chmod(0o644)
    with pytest.raises(EvacuationError, match="open to others"):
        saving.Saver(filled.settings).save()


def test_a_receipt_is_given_again_only_if_what_it_is_for_reads_back_once_more(filled: Lab) -> None:
    first = evacuate(filled.settings)
    pack = max(filled.packs(), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 4
    pack.write_bytes(bytes(data))
    second = evacuate(filled.settings)
    assert second.place != first.place
    assert filled.command("restore", second.place, str(filled.base / "back")).code == 0
    assert picture(filled.base / "back") == picture(filled.workspace)


def test_who_stood_still_before_a_refusal_goes_on_after_it(filled: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A freeze may be an earlier command's, which was killed; a refusal that leaves it there would be a standstill."""
    freed: list[bool] = []
    monkeypatch.setattr(Freezer, "thaw", lambda self: freed.append(True) or [])
    away(filled, monkeypatch)
    with pytest.raises(Refused):
        evacuate(filled.settings)
    assert freed
