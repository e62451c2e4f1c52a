"""The Release chain: which model is live, as an append-only, signed, create-only list.

`releases/<model>/<n>.json`. A writer creates n+1 after reading n, so of two writers one loses. A reader never
goes back below an n it has seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from stackyard.store import layout
from stackyard.store.documents import Document, DocumentError, verify
from stackyard.store.objects import Store, sha256

KIND, VERSION = "release", 1


class Release(BaseModel):
    """One entry of the chain. Digests are hex sha256."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str
    """The model's name."""
    number: int
    """The place in the chain, from 1."""
    champion: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """Digest of the bundle that answers."""
    stage: Literal["live"] = "live"
    """How far the rollout is."""
    reason: str
    """Why this Release exists, for people."""
    created: str
    """When it was made, RFC 3339, UTC."""
    previous: str | None = None
    """sha256 of the stored Release before this one; none for the first."""


def newest(store: Store, model: str, trusted: Iterable[str], *, after: int = 0) -> Release | None:
    """The newest Release past number `after` whose signature holds, or None when there is none.

    Walks the chain forward, so that a poll costs one read. Raises DocumentError for one that cannot be trusted.
    """
    found, number, keys = None, after, tuple(trusted)
    while (data := _read(store, model, number + 1)) is not None:
        number += 1
        body = verify(data, kind=KIND, newest=VERSION, trusted=keys).body
        try:
            found = Release.model_validate(body)
        except ValidationError as error:
            raise DocumentError(f"release {number} of {model} lacks or mistypes {error.error_count()} fields") from None
        if (found.model, found.number) != (model, number):
            raise DocumentError(f"release {number} of {model} claims to be {found.number} of {found.model}")
    return found


def publish(store: Store, release: Release, key: Ed25519PrivateKey) -> bool:
    """Append `release`; False when somebody else took its number first."""
    data = Document(KIND, VERSION, release.model_dump(mode="json")).sign(key)
    return store.create(layout.release(release.model, release.number), data)


def stored_digest(store: Store, model: str, number: int) -> str | None:
    """sha256 of the stored Release `number`, for the next one's `previous`."""
    data = _read(store, model, number)
    return None if data is None else sha256(data)


def _read(store: Store, model: str, number: int) -> bytes | None:
    try:
        return store.read(layout.release(model, number)) if number > 0 else None
    except KeyError:
        return None
