"""The audit log is one chain: nothing in it can change, vanish or fork unseen."""

import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stackyard.store import audit, layout, releases
from stackyard.store.documents import Document, DocumentError, public_text
from stackyard.store.objects import Store, sha256
from stackyard.store.releases import AuditHead, Release

KEY = Ed25519PrivateKey.generate()
TRUSTED = [public_text(KEY.public_key())]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "a store")


def _append(log: audit.Log, what: str, **more: Any) -> AuditHead:
    return log.append(at="2013-03-01T00:00:00+00:00", who="controller", what=what, why="so", **more)


def _release(store: Store, number: int, head: AuditHead | None) -> None:
    previous = releases.stored_digest(store, "m", number - 1)
    release = Release(
        model="m", number=number, champion="a" * 64, reason="r", created="t", audit=head, previous=previous
    )
    assert releases.publish(store, release, KEY)


def _sealed(store: Store) -> audit.Log:
    """Five entries; releases 1 and 2 were made at entries 2 and 4."""
    log = audit.Log(store, "m", KEY)
    heads = [_append(log, f"did {number}") for number in range(1, 6)]
    _release(store, 1, heads[1])
    _release(store, 2, heads[3])
    return log


def test_an_untouched_log_is_sound_and_says_how_far_releases_seal_it(store: Store) -> None:
    log = _sealed(store)
    report = audit.verify(store, "m", TRUSTED)
    assert (report.entries, report.releases, report.sealed, report.broken) == (5, 2, 4, None)
    assert report.head == log.head() == audit.head(store, "m")
    assert [entry.what for entry in audit.entries(store, "m", TRUSTED)] == [f"did {number}" for number in range(1, 6)]


def test_an_empty_log_is_sound(store: Store) -> None:
    assert audit.verify(store, "m", TRUSTED) == audit.Report(0, 0, 0, None, None)


def _path(store: Store, number: int) -> Path:
    return Path(store.url, layout.audit("m", number))


def _changed(store: Store) -> None:
    _path(store, 3).write_bytes(_path(store, 3).read_bytes().replace(b"did 3", b"did 0"))


def _missing(store: Store) -> None:
    _path(store, 3).unlink()


def _swapped(store: Store) -> None:
    third, fourth = _path(store, 3).read_bytes(), _path(store, 4).read_bytes()
    _path(store, 3).write_bytes(fourth)
    _path(store, 4).write_bytes(third)


def _cut(store: Store) -> None:
    for number in (3, 4, 5):
        _path(store, number).unlink()


def _rewritten_with_the_key(store: Store) -> None:
    before = AuditHead(number=1, digest=sha256(_path(store, 1).read_bytes()))
    for number in (2, 3, 4, 5):
        _forged_after(store, number, before)
        before = AuditHead(number=number, digest=sha256(_path(store, number).read_bytes()))


def _forged_after(store: Store, number: int, before: AuditHead) -> None:
    body = {
        "model": "m",
        "number": number,
        "previous": before.digest,
        "at": "t",
        "who": "w",
        "what": f"did {number}",
        "why": "another story",
    }
    _path(store, number).write_bytes(Document("audit", 1, body).sign(KEY))


def _signed_by_a_stranger(store: Store) -> None:
    body = audit.entries(store, "m", TRUSTED)[2].model_dump(mode="json", exclude_none=True)
    _path(store, 3).write_bytes(Document("audit", 1, body).sign(Ed25519PrivateKey.generate()))


def _release_replaced(store: Store) -> None:
    path = Path(store.url, layout.release("m", 1))
    body = releases.history(store, "m", TRUSTED)[0].model_copy(update={"reason": "another"}).model_dump(mode="json")
    path.write_bytes(Document("release", 2, body).sign(KEY))


@pytest.mark.parametrize(
    ("damage", "number", "said"),
    [
        pytest.param(_changed, 3, "bad signature", id="a changed entry"),
        pytest.param(_missing, 3, "missing", id="a missing entry"),
        pytest.param(_swapped, 3, "claims to be entry 4", id="two entries swapped"),
        pytest.param(_cut, 3, "the log holds 2", id="cut short before a released head"),
        pytest.param(_rewritten_with_the_key, 2, "is not the one that release 1", id="rewritten with the release key"),
        pytest.param(_signed_by_a_stranger, 3, "not trusted", id="signed by a stranger"),
        pytest.param(_release_replaced, 2, "release 2 does not follow", id="a release replaced"),
    ],
)
def test_the_first_break_is_named(store: Store, damage: Any, number: int, said: str) -> None:
    _sealed(store)
    damage(store)
    broken = audit.verify(store, "m", TRUSTED).broken
    assert broken is not None
    assert broken.number == number
    assert said in broken.reason


def test_a_writer_goes_no_further_on_a_log_that_does_not_hold(store: Store) -> None:
    _sealed(store)
    _changed(store)
    with pytest.raises(DocumentError, match="bad signature"):
        _append(audit.Log(store, "m", KEY), "did 6")


def test_an_event_is_entered_once_by_whoever_comes_after_a_kill(store: Store) -> None:
    first = _append(audit.Log(store, "m", KEY), "promoted", event="release-3")
    again = audit.Log(store, "m", KEY)
    _append(again, "else")
    assert _append(again, "promoted", event="release-3") == first
    assert len(audit.entries(store, "m", TRUSTED)) == 2


def test_two_writers_at_once_make_one_chain_with_every_entry(store: Store) -> None:
    def write(name: str) -> None:
        log = audit.Log(store, "m", KEY)
        for number in range(20):
            _append(log, f"{name} {number}", event="the same" if number == 7 else None)

    threads = [threading.Thread(target=write, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = audit.verify(store, "m", TRUSTED)
    assert (report.broken, report.entries) == (None, 58)
    assert len({entry.what for entry in audit.entries(store, "m", TRUSTED)}) == 58
