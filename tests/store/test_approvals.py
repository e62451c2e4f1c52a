"""An approval is of exactly what was looked at, by exactly one person."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stackyard.store import approvals, layout
from stackyard.store.approvals import Approval, Subject
from stackyard.store.documents import public_text
from stackyard.store.objects import Store

ADA, BOB, EVE = (Ed25519PrivateKey.generate() for _ in range(3))
APPROVERS = {"ada": public_text(ADA.public_key()), "bob": public_text(BOB.public_key())}
SUBJECT = Subject(model="m", run_id="m-0002-abcd", bundle="b" * 64, gate="c" * 64, plan="d" * 64)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "a store")


def _approve(store: Store, by: str, key: Ed25519PrivateKey, subject: Subject = SUBJECT, created: str = "t") -> bool:
    return approvals.approve(store, Approval(subject=subject, by=by, created=created), key)


def test_two_people_are_two(store: Store) -> None:
    assert _approve(store, "ada", ADA)
    assert _approve(store, "bob", BOB)
    assert approvals.count(store, SUBJECT, APPROVERS) == approvals.Count(("ada", "bob"), ())


def test_one_person_who_signs_twice_is_one(store: Store) -> None:
    assert _approve(store, "ada", ADA)
    assert not _approve(store, "ada", ADA)
    assert _approve(store, "ada", ADA, created="later")
    assert approvals.count(store, SUBJECT, APPROVERS).names == ("ada",)


def test_one_key_under_two_names_is_one_person(store: Store) -> None:
    twice = {"ada": APPROVERS["ada"], "ada-at-home": APPROVERS["ada"]}
    _approve(store, "ada", ADA)
    _approve(store, "ada-at-home", ADA)
    assert len(approvals.count(store, SUBJECT, twice).names) == 1


@pytest.mark.parametrize(
    "change",
    [{"bundle": "e" * 64}, {"gate": "e" * 64}, {"plan": "e" * 64}],
    ids=["another bundle", "another gate report", "another plan"],
)
def test_whatever_changes_voids_the_approval_and_it_can_be_given_again(store: Store, change: dict[str, Any]) -> None:
    _approve(store, "ada", ADA)
    changed = SUBJECT.model_copy(update=change)
    found = approvals.count(store, changed, APPROVERS)
    assert found.names == ()
    assert found.void == (f"ada signed another {next(iter(change))}",)
    assert _approve(store, "ada", ADA, changed)
    assert approvals.count(store, changed, APPROVERS).names == ("ada",)


@pytest.mark.parametrize(
    ("by", "key", "said"),
    [
        pytest.param("eve", EVE, "not trusted", id="a stranger"),
        pytest.param("bob", ADA, "not trusted", id="in a colleague's name"),
        pytest.param("eve", ADA, "no approver here", id="under a name that nobody has"),
    ],
)
def test_only_named_keys_in_their_own_name_count(store: Store, by: str, key: Ed25519PrivateKey, said: str) -> None:
    _approve(store, by, key)
    found = approvals.count(store, SUBJECT, APPROVERS)
    assert found.names == ()
    assert said in found.void[0]


def test_garbage_in_an_approvers_place_takes_it_from_nobody(store: Store) -> None:
    store.create(layout.approval("m", SUBJECT.run_id, "ada"), b"{}")
    _approve(store, "ada", ADA)
    found = approvals.count(store, SUBJECT, APPROVERS)
    assert (found.names, len(found.void)) == (("ada",), 1)


def test_the_subject_is_what_the_store_holds_now(store: Store) -> None:
    with pytest.raises(KeyError):
        approvals.subject_of(store, "m", "r", "b" * 64, "plan")
    store.create(layout.gate("m", "r"), b"{}")
    assert approvals.subject_of(store, "m", "r", "b" * 64, "plan").gate == (
        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    )
