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

KIND, VERSION = "release", 2

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Arm(BaseModel):
    """A challenger beside the champion."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    bundle: Digest
    """Digest of its bundle."""
    kind: Literal["shadow", "canary"]
    """Whether its answers are only compared, or given."""
    share: float
    """Share of requests that it sees, in (0, 1]."""
    key: str | None = None
    """The input whose value keeps a caller on one arm; none: the request id."""
    fuse: int = 5
    """Failures in one replica after which that replica stops asking it."""
    timeout: float = 0.25
    """Seconds it has for one batch."""
    memory: int = 1 << 30
    """Bytes its process may take."""


class AuditHead(BaseModel):
    """The newest audit entry when a Release was made."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    number: int
    digest: Digest


class Release(BaseModel):
    """One entry of the chain. Digests are hex sha256."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str
    """The model's name."""
    number: int
    """The place in the chain, from 1."""
    champion: Digest
    """Digest of the bundle that answers."""
    arms: tuple[Arm, ...] = ()
    """Challengers; at most one, today."""
    warm: tuple[Digest, ...] = ()
    """Bundles that replicas keep loaded, so that a rollback is a pointer swap."""
    stage: Literal["live", "shadow", "canary", "watch"] = "live"
    """How far the rollout is; `watch`: promoted, with the former champion as a shadow."""
    step: int | None = None
    """Index of the rollout's stage in the spec, from 0; none while there is no rollout."""
    candidate: str | None = None
    """The run whose candidate this Release rolls out, promotes, or gives up."""
    outcome: Literal["promoted", "stopped", "expired", "rolled_back"] | None = None
    """What became of `candidate` with this Release; none while its rollout goes on."""
    wish: str | None = None
    """The person's wish that this Release carries out."""
    audit: AuditHead | None = None
    """Head of the audit log."""
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
    while (release := _verified(store, model, number + 1, keys)) is not None:
        found, number = release, number + 1
    return found


def history(store: Store, model: str, trusted: Iterable[str], *, after: int = 0) -> list[Release]:
    """Every Release past number `after`, oldest first, each verified. Raises DocumentError."""
    found: list[Release] = []
    while (release := _verified(store, model, after + len(found) + 1, tuple(trusted))) is not None:
        found.append(release)
    return found


def publish(store: Store, release: Release, key: Ed25519PrivateKey) -> bool:
    """Append `release`; False when somebody else took its number first."""
    data = Document(KIND, VERSION, release.model_dump(mode="json")).sign(key)
    return store.create(layout.release(release.model, release.number), data)


def stored_digest(store: Store, model: str, number: int) -> str | None:
    """sha256 of the stored Release `number`, for the next one's `previous`."""
    data = _read(store, model, number)
    return None if data is None else sha256(data)


def _verified(store: Store, model: str, number: int, trusted: tuple[str, ...]) -> Release | None:
    if (data := _read(store, model, number)) is None:
        return None
    body = verify(data, kind=KIND, newest=VERSION, trusted=trusted).body
    try:
        found = Release.model_validate(body)
    except ValidationError as error:
        raise DocumentError(f"release {number} of {model} lacks or mistypes {error.error_count()} fields") from None
    if (found.model, found.number) != (model, number):
        raise DocumentError(f"release {number} of {model} claims to be {found.number} of {found.model}")
    return found


def _read(store: Store, model: str, number: int) -> bytes | None:
    try:
        return store.read(layout.release(model, number)) if number > 0 else None
    except KeyError:
        return None
