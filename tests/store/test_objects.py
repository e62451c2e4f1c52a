"""The store keeps its three promises on a real folder."""

from pathlib import Path

import pytest

from stackyard.store.objects import DigestMismatchError, Store, sha256


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "a folder with spaces and ü")


def test_create_writes_once_and_says_so(store: Store) -> None:
    assert store.create("a/b.json", b"first")
    assert not store.create("a/b.json", b"second")
    assert store.read("a/b.json") == b"first"


def test_what_is_absent_raises_key_error(store: Store) -> None:
    with pytest.raises(KeyError):
        store.read("nothing")
    assert not store.exists("nothing")
    store.delete("nothing")


def test_a_digest_is_checked_before_the_bytes_are_handed_out(store: Store) -> None:
    store.write("x", b"data")
    assert store.read("x", digest=sha256(b"data")) == b"data"
    with pytest.raises(DigestMismatchError):
        store.read("x", digest=sha256(b"other"))


def test_keys_are_listed_in_order_and_by_folder(store: Store) -> None:
    for key in ("b/2", "b/1", "bb/3"):
        store.write(key, b"")
    assert list(store.keys("b")) == ["b/1", "b/2"]


def test_keys_past_another_are_listed_alone(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    for key in ("a/1", "a/2", "a/3/x", "b/4"):
        store.create(key, b"")
    assert list(store.keys("a", after="a/1")) == ["a/2", "a/3/x"]
    assert list(store.keys("a", after="a/15")) == ["a/2", "a/3/x"]
    assert list(store.keys("a", after="a/9")) == list(store.keys("c", after="a/1")) == []


def test_a_folder_that_was_moved_away_is_not_made_again_by_a_write(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    store.create("a", b"1")
    (tmp_path / "store").rename(tmp_path / "away")
    for write in (store.create, store.write, store.keep):
        with pytest.raises(FileNotFoundError, match="no longer there"):
            write("b", b"2")
    assert not (tmp_path / "store").exists()
    (tmp_path / "away").rename(tmp_path / "store")
    assert store.create("b", b"2")
