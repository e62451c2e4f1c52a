"""Versions of a workspace: signed, create-only manifests, each naming the digest of the one before.

A version is complete when its manifest is there, since that is written last. A document under `versions/` that nobody
trusted signed is passed over; a trusted one that is not where it says it belongs is damage.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, ValidationError

from stackyard.evacuation.blobs import Ref
from stackyard.evacuation.errors import DamageError, EvacuationError, reaching
from stackyard.store import layout
from stackyard.store.documents import Document, DocumentError, verify
from stackyard.store.objects import Store, sha256

KIND, VERSION = "workspace", 1
_ATTEMPTS = 8


class Version(BaseModel):
    """One state of a workspace. Times are RFC 3339, UTC, of the saving machine."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    cluster: str
    number: int
    instance: str
    generation: int
    previous: str | None
    """sha256 of the manifest before; none for the first."""
    started: str
    """When the save began: everything written before is in it."""
    finished: str
    entries: int
    files: int
    size: int
    """Bytes of the files' content."""
    unsaved: int
    """Entries that could not be saved as they were; the report names them."""
    left_out: int
    """Entries that rules leave out, and sockets and their like; the report names them."""
    same_disk: bool | None
    """Whether store and workspace were on one disk."""
    root: list[Any]
    """Where the listing lies."""
    report: list[Any]
    """Where the report lies: {unsaved, left_out, repositories}."""
    encryption: dict[str, str] | None

    @property
    def root_ref(self) -> Ref:
        """Where the listing lies."""
        return Ref.load(self.root)

    @property
    def report_ref(self) -> Ref:
        """Where the report lies."""
        return Ref.load(self.report)


class Found(BaseModel):
    """A version as it lies in the store."""

    model_config = ConfigDict(frozen=True)

    version: Version
    digest: str
    """sha256 of its manifest."""


def now() -> dt.datetime:
    """The time of this machine."""
    return dt.datetime.now(dt.UTC)


def text(moment: dt.datetime) -> str:
    """RFC 3339."""
    return moment.isoformat(timespec="microseconds")


def numbers(store: Store, cluster: str) -> list[int]:
    """The numbers of all manifests, ascending, trusted or not."""
    with reaching(store.url):
        stems = [key.rpartition("/")[2].removesuffix(".json") for key in store.keys(f"workspaces/{cluster}/versions")]
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def read(store: Store, cluster: str, number: int, trusted: Iterable[str]) -> Found:
    """A version. Raises EvacuationError when there is none, DamageError when it cannot be trusted."""
    try:
        with reaching(store.url):
            data = store.read(layout.workspace_version(cluster, number))
    except KeyError:
        raise EvacuationError(f"{cluster} has no version {number}") from None
    try:
        found = Version.model_validate(verify(data, kind=KIND, newest=VERSION, trusted=trusted).body)
    except (DocumentError, ValidationError) as error:
        raise DamageError(f"version {number} of {cluster}: {error}") from None
    if (found.cluster, found.number) != (cluster, number):
        raise DamageError(f"version {number} of {cluster} claims to be version {found.number} of {found.cluster}")
    return Found(version=found, digest=sha256(data))


def newest(store: Store, cluster: str, trusted: Iterable[str]) -> Found | None:
    """The newest version that can be trusted; None without any."""
    trusted = tuple(trusted)
    for number in reversed(numbers(store, cluster)):
        try:
            return read(store, cluster, number, trusted)
        except DamageError:
            continue
    return None


def append(
    store: Store,
    cluster: str,
    key: Ed25519PrivateKey,
    trusted: Iterable[str],
    make: Callable[[int, str | None], Version],
) -> Found:
    """Add what `make(number, previous digest)` gives; who loses a race takes the next number."""
    trusted = tuple(trusted)
    for _ in range(_ATTEMPTS):
        before = newest(store, cluster, trusted)
        number = max(numbers(store, cluster), default=0) + 1
        version = make(number, None if before is None else before.digest)
        data = Document(KIND, VERSION, version.model_dump(mode="json")).sign(key)
        with reaching(store.url):
            written = store.create(layout.workspace_version(cluster, number), data)
        if written:
            return Found(version=version, digest=sha256(data))
    raise EvacuationError(f"others kept adding versions of {cluster}: save again")
