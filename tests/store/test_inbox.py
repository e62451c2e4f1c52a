"""Wishes are read in order, once, and only from those who may wish."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stackyard.store import inbox, layout
from stackyard.store.documents import Document, public_text
from stackyard.store.inbox import Wish
from stackyard.store.objects import Store

KEY = Ed25519PrivateKey.generate()
TRUSTED = [public_text(KEY.public_key())]


def _wish(number: int, kind: Any, **more: Any) -> Wish:
    return Wish(
        id=f"{number:020d}-00000000",
        model="m",
        kind=kind,
        because="so",
        by="ada",
        created="2026-01-01T00:00:00+00:00",
        **more,
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "a store")


def test_wishes_come_back_in_order_also_one_that_arrives_late(store: Store) -> None:
    box = inbox.Inbox(store, "m", TRUSTED)
    assert box.read() == []
    first, second, third = _wish(1, "pause"), _wish(2, "train"), _wish(3, "resume")
    for wish in (third, first):
        assert inbox.send(store, wish, KEY)
    assert box.read() == [first, third]
    assert inbox.send(store, second, KEY)
    assert box.read() == [first, second, third]
    assert inbox.read(store, "m", TRUSTED, after=first.id) == [second, third]


def test_what_is_much_older_than_the_newest_wish_is_looked_for_once_a_minute(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment, hour, looked = [0.0], 3600 * 10**9, []
    keys = store.keys
    monkeypatch.setattr(store, "keys", lambda prefix, *, after=None: looked.append(after) or keys(prefix, after=after))
    box = inbox.Inbox(store, "m", TRUSTED, lambda: moment[0])
    newest, skewed = _wish(9 * hour, "pause"), _wish(9 * hour - inbox.SKEW_NANOSECONDS + 1, "resume")
    late, later = _wish(2 * hour, "train"), _wish(10 * hour, "train")
    assert inbox.send(store, newest, KEY) and box.read() == [newest]
    store.create(layout.wish("m", "99999999999999999999-00000000"), b"garbage that is named as the last of all")
    for wish in (skewed, late, later):
        inbox.send(store, wish, KEY)
    moment[0] = 59.0
    assert box.read() == [skewed, newest, later]
    moment[0] = 60.0
    assert box.read() == [late, skewed, newest, later]
    assert [after is None for after in looked] == [True, False, True]


def test_a_wish_is_sent_once(store: Store) -> None:
    assert inbox.send(store, _wish(1, "pause"), KEY)
    assert not inbox.send(store, _wish(1, "resume"), KEY)
    assert inbox.read(store, "m", TRUSTED) == [_wish(1, "pause")]


def _stored(wish: Wish, *, key: Ed25519PrivateKey = KEY, kind: str = "wish") -> bytes:
    return Document(kind, 1, wish.model_dump(mode="json")).sign(key)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"", "not a signed document", id="empty"),
        pytest.param(b"\xff" * 99, "not a signed document", id="garbage"),
        pytest.param(b"[" * 9000, "not a signed document", id="deep"),
        pytest.param(b" " * 99_999, "are no wish", id="huge"),
        pytest.param(_stored(_wish(9, "pause"), key=Ed25519PrivateKey.generate()), "not trusted", id="a stranger"),
        pytest.param(_stored(_wish(9, "pause")).replace(b"so", b"No"), "bad signature", id="changed"),
        pytest.param(_stored(_wish(9, "pause"), kind="release"), "kind 'release'", id="another kind"),
        pytest.param(_stored(_wish(8, "pause")), "claims to be wish 0", id="copied under another name"),
        pytest.param(Document("wish", 1, {"kind": "pause"}).sign(KEY), "Field required", id="incomplete"),
        pytest.param(Document("wish", 2, {}).sign(KEY), "newer", id="too new"),
    ],
)
def test_what_is_no_trusted_wish_is_told_and_hurts_nobody(store: Store, data: bytes, said: str) -> None:
    inbox.send(store, _wish(1, "train"), KEY)
    store.create(layout.wish("m", _wish(9, "pause").id), data)
    box = inbox.Inbox(store, "m", TRUSTED)
    assert (box.read(), box.read()) == ([_wish(1, "train")], [_wish(1, "train")])
    (refused,) = box.refused
    assert said in refused.reason


@pytest.mark.parametrize("kind", ["reject", "promote", "release_day"])
def test_a_wish_names_what_it_is_about(kind: str) -> None:
    with pytest.raises(ValidationError, match="names a"):
        _wish(1, kind)


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        pytest.param([], {}, id="nothing"),
        pytest.param([_wish(1, "pause")], {"paused": _wish(1, "pause")}, id="paused"),
        pytest.param([_wish(1, "pause"), _wish(2, "resume")], {}, id="resumed"),
        pytest.param([_wish(1, "train"), _wish(2, "train")], {"train": (_wish(2, "train"),)}, id="one run begun"),
        pytest.param([_wish(2, "promote", run="r")], {"promote": {"r": _wish(2, "promote", run="r")}}, id="promote"),
        pytest.param(
            [_wish(2, "promote", run="r"), _wish(3, "reject", run="r"), _wish(4, "promote", run="r")],
            {"rejected": {"r": _wish(3, "reject", run="r")}},
            id="a rejection is final",
        ),
        pytest.param(
            [_wish(2, "rollback", release=7), _wish(3, "rollback", release=6)],
            {"rollback": (_wish(2, "rollback", release=7),)},
            id="a rollback that a release overtook",
        ),
        pytest.param(
            [_wish(2, "rollback", release=6, bundle="a" * 64)],
            {"rollback": (_wish(2, "rollback", release=6, bundle="a" * 64),)},
            id="a rollback to a named bundle is not overtaken",
        ),
        pytest.param(
            [_wish(2, "release_day", day=dt.date(2013, 5, 1))],
            {"released": {dt.date(2013, 5, 1): _wish(2, "release_day", day=dt.date(2013, 5, 1))}},
            id="a day believed",
        ),
    ],
)
def test_wishes_add_up_to_what_is_wanted(wishes: list[Wish], expected: dict[str, Any]) -> None:
    served = {_wish(1, "train").id}
    assert inbox.state(wishes, served, newest=7) == inbox.Wanted(**expected)


KINDS = st.sampled_from(["pause", "resume", "train", "rollback", "promote", "reject"])


@given(st.lists(KINDS, max_size=30))
def test_a_rejected_candidate_is_never_one_to_promote_and_served_wishes_never_return(kinds: list[str]) -> None:
    wishes = [_wish(number, kind, run="r") for number, kind in enumerate(kinds)]
    found = inbox.state(wishes, {wish.id for wish in wishes})
    assert found.train == found.rollback == ()
    assert not set(found.promote) & set(found.rejected)
    said = [kind for kind in kinds if kind in ("pause", "resume")]
    assert (found.paused is not None) == (said[-1:] == ["pause"])


def test_ids_of_one_machine_are_in_order() -> None:
    ids = [inbox.new_id() for _ in range(100)]
    assert [each[:20] for each in ids] == sorted(each[:20] for each in ids)
