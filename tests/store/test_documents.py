"""A signed document is believed only when kind, version, key and signature all hold."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from stackyard.store.documents import Document, DocumentError, canonical, public_text, verify

KEY = Ed25519PrivateKey.generate()
TRUSTED = [public_text(KEY.public_key())]
STORED = Document("release", 1, {"model": "m", "number": 3, "reason": "größer"}).sign(KEY)


def _altered(**changes: object) -> bytes:
    return canonical(json.loads(STORED) | changes)


def test_what_was_signed_is_read_back() -> None:
    document = verify(STORED, kind="release", newest=1, trusted=TRUSTED)
    assert document.body == {"model": "m", "number": 3, "reason": "größer"}


@pytest.mark.parametrize(
    ("data", "newest", "trusted", "said"),
    [
        pytest.param(b"\x80\x04.", 1, TRUSTED, "not a signed document", id="not json"),
        pytest.param(b"[]", 1, TRUSTED, "not a signed document", id="not an object"),
        pytest.param(_altered(kind="receipt"), 1, TRUSTED, "kind 'receipt'", id="another kind"),
        pytest.param(_altered(version=2), 1, TRUSTED, "newer than this program", id="too new"),
        pytest.param(_altered(version="1"), 1, TRUSTED, "newer than this program", id="version of another type"),
        pytest.param(_altered(body={"number": 4}), 1, TRUSTED, "bad signature", id="altered body"),
        pytest.param(STORED, 1, [], "not trusted", id="unknown key"),
        pytest.param(_altered(signature={"key": ["k"], "value": ""}), 1, TRUSTED, "not trusted", id="key is a list"),
        pytest.param(b"[" * 100_000, 1, TRUSTED, "not a signed document", id="nested without end"),
        pytest.param(_altered(body=[1]), 1, TRUSTED, "not trusted", id="body of another type"),
    ],
)
def test_anything_else_is_refused_with_its_reason(data: bytes, newest: int, trusted: list[str], said: str) -> None:
    with pytest.raises(DocumentError, match=said):
        verify(data, kind="release", newest=newest, trusted=trusted)


@given(position=st.integers(0, len(STORED) - 1), bit=st.integers(0, 7))
def test_no_flipped_bit_gets_another_body_through(position: int, bit: int) -> None:
    data = bytearray(STORED)
    data[position] ^= 1 << bit
    try:
        found = verify(bytes(data), kind="release", newest=1, trusted=TRUSTED)
    except DocumentError:
        return
    assert found.payload() == verify(STORED, kind="release", newest=1, trusted=TRUSTED).payload()


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans()))
def test_the_order_of_keys_does_not_matter_to_the_signature(body: dict[str, object]) -> None:
    backwards = dict(reversed(list(body.items())))
    assert Document("x", 1, body).payload() == Document("x", 1, backwards).payload()


def test_numbers_that_json_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"x": float("nan")})
