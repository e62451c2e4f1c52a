"""One signed-document type and one verifier, for Releases, intents and receipts alike.

A document is `{kind, version, body, signature}`. The signature (ed25519) covers the canonical JSON of the
first three: sorted keys, no spaces, UTF-8, no NaN. A reader names the kind and the newest version it
understands, and the public keys it trusts; anything else is refused before the body is looked at.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from stackyard.store.objects import sha256


class DocumentError(Exception):
    """A document that cannot be trusted or understood."""


def canonical(value: Any) -> bytes:
    """Canonical JSON: one byte string for one value. Raises ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


@dataclass(frozen=True)
class Document:
    """What is signed: a `kind` (`release`, `intent`, ...), its format `version`, and the `body`."""

    kind: str
    version: int
    body: dict[str, Any]

    def payload(self) -> bytes:
        """The bytes under the signature."""
        return canonical({"kind": self.kind, "version": self.version, "body": self.body})

    def sign(self, key: Ed25519PrivateKey) -> bytes:
        """The stored form, signed by `key`."""
        signature = base64.b64encode(key.sign(self.payload())).decode()
        return canonical(
            {
                "kind": self.kind,
                "version": self.version,
                "body": self.body,
                "signature": {"key": public_text(key.public_key()), "value": signature},
            }
        )


def verify(data: bytes, *, kind: str, newest: int, trusted: Iterable[str]) -> Document:
    """The document in `data`, if a key of `trusted` (public halves, base64) signed it.

    Raises DocumentError naming what is wrong: not JSON, another kind, too new, unknown key, bad signature.
    """
    try:
        raw = json.loads(data)
        found, version, body = raw["kind"], raw["version"], raw["body"]
        signer, value = raw["signature"]["key"], base64.b64decode(raw["signature"]["value"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DocumentError(f"not a signed document: {error}") from None
    if found != kind:
        raise DocumentError(f"a document of kind {found!r} where {kind!r} was expected")
    if not isinstance(version, int) or version > newest:
        raise DocumentError(f"{kind} version {version!r} is newer than this program understands ({newest}): upgrade")
    if not isinstance(body, dict) or not isinstance(signer, str) or signer not in set(trusted):
        raise DocumentError(f"{kind} is signed by a key that is not trusted here")
    document = Document(found, version, body)
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(signer)).verify(value, document.payload())
    except (InvalidSignature, ValueError):
        raise DocumentError(f"{kind} has a bad signature") from None
    return document


def public_text(key: Ed25519PublicKey) -> str:
    """The public half as base64 text, as stack files and processes carry it."""
    return base64.b64encode(key.public_bytes_raw()).decode()


def digest_of(value: Any) -> str:
    """sha256 of the canonical JSON of `value`."""
    return sha256(canonical(value))
