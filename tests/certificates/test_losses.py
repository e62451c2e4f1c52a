"""The work is safe only if receipt, version and every pack are there and whole, and the key that opens them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from departed import (
    Departed,
    away,
    damaged_pack,
    discard_beside_a_receipt,
    discard_of_another_generation,
    discard_while_away,
    forged_receipt,
    longer_pack,
    missing_packs,
    no_receipt,
    no_receipt_but_a_discard,
    nothing,
    other_generation,
    other_instance,
    other_version,
)
from stackyard.certificates import evidence, losses
from stackyard.store.keys import write_private
from stackyard.store.objects import Store

DONE: dict[str, tuple[Callable[[Departed], None], str, str]] = {
    "nothing": (nothing, "safe", ""),
    "no-receipt": (no_receipt, "lost", "no valid receipt of instance i-1, generation 1"),
    "a-forged-receipt": (forged_receipt, "lost", "no valid receipt"),
    "a-flipped-bit": (damaged_pack, "lost", "is not what was put there"),
    "a-pack-with-a-byte-more": (longer_pack, "lost", "is not what was put there"),
    "missing-packs": (missing_packs, "lost", "missing"),
    "a-receipt-of-another-generation": (other_generation, "lost", "generation 2"),
    "a-receipt-of-another-instance": (other_instance, "lost", "instance i-2"),
    "a-version-that-is-another": (other_version, "lost", ""),
    "the-store-away": (away, "unproven", "is not there"),
    "no-receipt-but-a-discard": (no_receipt_but_a_discard, "given-up", "ada chose to lose it: a trial"),
    "a-discard-given-while-the-store-was-away": (discard_while_away, "given-up", "a trial"),
    "a-discard-of-another-generation": (discard_of_another_generation, "lost", "generation 2"),
    "a-discard-beside-a-receipt": (discard_beside_a_receipt, "safe", ""),
}


def proof(gone: Departed) -> losses.Proof:
    known = evidence.read(gone.evidence())
    return losses.prove(known.settings, known.before, was_opened=known.opened)


@pytest.mark.parametrize("word", DONE)
def test_work_is_safe_only_if_all_of_it_can_be_had_back(word: str, gone: Departed):
    do, verdict, sentence = DONE[word]
    gone.evacuated()
    do(gone)
    found = proof(gone)
    assert found.verdict == verdict, found.why
    assert sentence in "; ".join(found.why)
    assert (found.receipt is None) == (verdict != "safe")
    assert not gone.lab.store.exists() or Store.open(gone.lab.store), "looking makes no store"


def test_an_encrypted_workspace_needs_its_key(gone: Departed):
    key = gone.base / "encrypt.key"
    gone.evacuated(encrypt_key=str(key))
    assert proof(gone).verdict == "safe"
    key.unlink()
    assert proof(gone).verdict == "lost"
    write_private(key, bytes(32))
    assert "encrypted with another key" in "; ".join(proof(gone).why)


def test_a_receipt_that_is_damaged_does_not_spoil_one_that_holds(gone: Departed):
    gone.evacuated()
    whole = next(gone.lab.store.glob("receipts/*/*.json"))
    whole.with_name(whole.name.replace("-0001", "-0002")).write_bytes(b"{}")
    assert proof(gone).verdict == "safe"


def test_a_workspace_that_was_never_opened_loses_nothing_if_it_was_empty(gone: Departed):
    gone.lab.store.mkdir()
    settings = gone.lab.with_(generation=0).settings
    assert losses.prove(settings, {"empty": True}, was_opened=False).verdict == "safe"
    assert losses.prove(settings, {"empty": False}, was_opened=False).verdict == "lost"
    assert losses.prove(settings, {"empty": True}, was_opened=True).verdict == "lost"


def test_looking_for_a_store_that_is_away_makes_none(gone: Departed, tmp_path: Path):
    assert losses.prove(gone.lab.with_(store=str(tmp_path / "nowhere")).settings, {}).verdict == "unproven"
    assert not (tmp_path / "nowhere").exists()
    assert losses.prove(None, {}).verdict == "lost"
