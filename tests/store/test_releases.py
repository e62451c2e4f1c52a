"""The Release chain only grows, forks never, and is read forward."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stackyard.store import layout, releases
from stackyard.store.documents import Document, DocumentError, public_text
from stackyard.store.objects import Store

KEY = Ed25519PrivateKey.generate()
TRUSTED = [public_text(KEY.public_key())]


def _release(number: int, champion: str = "a" * 64) -> releases.Release:
    return releases.Release(
        model="m", number=number, champion=champion, reason="better", created="2026-01-01T00:00:00+00:00"
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "a store")


def test_an_empty_chain_has_no_newest(store: Store) -> None:
    assert releases.newest(store, "m", TRUSTED) is None


def test_the_newest_is_the_last_of_an_unbroken_chain(store: Store) -> None:
    for number in (1, 2, 3):
        assert releases.publish(store, _release(number), KEY)
    found = releases.newest(store, "m", TRUSTED)
    assert found is not None
    assert found.number == 3


def test_of_two_writers_of_one_number_the_second_loses_and_changes_nothing(store: Store) -> None:
    assert releases.publish(store, _release(1, "a" * 64), KEY)
    assert not releases.publish(store, _release(1, "b" * 64), KEY)
    found = releases.newest(store, "m", TRUSTED)
    assert found is not None
    assert found.champion == "a" * 64


def test_a_reader_that_has_seen_a_release_is_told_only_of_later_ones(store: Store) -> None:
    releases.publish(store, _release(1), KEY)
    assert releases.newest(store, "m", TRUSTED, after=1) is None
    releases.publish(store, _release(2), KEY)
    found = releases.newest(store, "m", TRUSTED, after=1)
    assert found is not None
    assert found.number == 2


def test_a_release_by_a_stranger_is_refused(store: Store) -> None:
    releases.publish(store, _release(1), Ed25519PrivateKey.generate())
    with pytest.raises(DocumentError, match="not trusted"):
        releases.newest(store, "m", TRUSTED)


def test_a_release_copied_to_another_place_is_refused(store: Store) -> None:
    releases.publish(store, _release(1), KEY)
    store.create(layout.release("m", 2), store.read(layout.release("m", 1)))
    with pytest.raises(DocumentError, match="claims to be"):
        releases.newest(store, "m", TRUSTED)


def test_a_signed_release_that_lacks_fields_is_refused_in_words(store: Store) -> None:
    store.create(layout.release("m", 1), Document("release", 1, {"model": "m", "number": 1}).sign(KEY))
    with pytest.raises(DocumentError, match="release 1 of m lacks or mistypes 3 fields"):
        releases.newest(store, "m", TRUSTED)
