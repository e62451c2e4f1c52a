"""What lets a cluster go: a receipt (its work is safe, proven) or a discard (somebody chose to lose it).

Both bind one instance and one generation of its workspace, so neither says anything about what is made later: a
generation ends when the workspace is unsealed. A discard may rest beside the state while the store is away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, ValidationError

from stackyard.evacuation import versions
from stackyard.evacuation.errors import DamageError, EvacuationError, StoreAwayError, StoreFullError, reaching
from stackyard.evacuation.freezing import write_whole
from stackyard.evacuation.settings import SaverSettings
from stackyard.evacuation.versions import Found
from stackyard.store import layout
from stackyard.store.documents import Document, DocumentError, verify
from stackyard.store.objects import Store

RECEIPT, DISCARD, VERSION = "receipt", "discard", 1


class _Bound(BaseModel):
    """What one instance and generation of a workspace is."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    stack: str
    stack_id: str
    cluster: str
    instance: str
    generation: int
    created: str
    """RFC 3339, UTC."""

    def fits(self, settings: SaverSettings) -> bool:
        """Whether it speaks of the workspace in `settings`."""
        want = (settings.cluster, settings.instance, settings.generation)
        return (self.cluster, self.instance, self.generation) == want


T = TypeVar("T", bound=_Bound)


class Receipt(_Bound):
    """Everything in the workspace was in the store, read back and compared, while its writers stood still."""

    workspace: int
    """The version that holds it."""
    manifest: str
    """sha256 of that version's manifest."""
    entries: int
    files: int
    size: int
    """Bytes of the files' content."""
    left_out: int
    """Entries that the author's rules leave out, and sockets and their like; the version's report names them."""
    exclude: list[str]
    include: list[str]
    largest: int | None
    same_disk: bool | None
    """Whether store and workspace were on one disk."""
    frozen: int
    """Processes that stood still."""
    pieces: int
    """Pieces read back from the store."""


class Discard(_Bound):
    """Somebody chose to lose what is not in the store."""

    because: str
    by: str
    newest: int | None
    """The newest version, which stays; none was made, or the store did not say."""


@dataclass(frozen=True)
class Signed(Generic[T]):
    """A document that can be trusted, and where it lies."""

    body: T
    place: str


def give(settings: SaverSettings, store: Store, key: Ed25519PrivateKey, body: Receipt) -> Signed[Receipt]:
    """Sign and store a receipt."""
    data = _document(RECEIPT, body).sign(key)
    for number in range(1, 10_000):
        place = layout.receipt(settings.cluster, settings.instance, settings.generation, number)
        with reaching(store.url):
            if store.create(place, data):
                return Signed(body, place)
    raise EvacuationError(f"there are too many receipts of {settings.instance}")


def discard(settings: SaverSettings, store: Store | None, key: Ed25519PrivateKey, body: Discard) -> Signed[Discard]:
    """Sign and store a discard; beside the state when the store is None, full or away."""
    data = _document(DISCARD, body).sign(key)
    for number in range(1, 10_000):
        place = layout.discard(settings.cluster, settings.instance, settings.generation, number)
        try:
            if store is None:
                break
            with reaching(store.url):
                if store.create(place, data):
                    return Signed(body, place)
        except (StoreAwayError, StoreFullError):
            break
    folder = settings.state / "discards"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{settings.instance}-{settings.generation}.json"
    write_whole(path, data)
    return Signed(body, str(path))


def receipts(settings: SaverSettings, store: Store) -> list[Signed[Receipt]]:
    """Valid receipts of this instance and generation, newest first. Raises StoreAwayError."""
    stem = layout.receipt(settings.cluster, settings.instance, settings.generation, 0).removesuffix("0000.json")
    with reaching(store.url):
        keys = [key for key in store.keys(f"receipts/{settings.cluster}") if key.startswith(stem)]
    found = []
    for key in reversed(keys):
        try:
            found.append(receipt_at(settings, store, key, of_instance=True))
        except (EvacuationError, KeyError):
            continue
    return found


def receipt_at(settings: SaverSettings, store: Store, key: str, *, of_instance: bool = False) -> Signed[Receipt]:
    """The receipt at `key`. Raises EvacuationError for one that is not valid, or not of this cluster (or instance)."""
    try:
        with reaching(store.url):
            data = store.read(key)
    except KeyError:
        raise EvacuationError(f"there is no receipt {key}") from None
    body = _read(data, RECEIPT, Receipt, settings.trusted_keys)
    if body.cluster != settings.cluster or (of_instance and not body.fits(settings)):
        raise EvacuationError(f"{key} is a receipt of {body.cluster}, instance {body.instance}")
    version_of(settings, store, body)
    return Signed(body, key)


def version_of(settings: SaverSettings, store: Store, body: Receipt) -> Found:
    """The version that a receipt is for. Raises DamageError when it is no longer that version."""
    found = versions.read(store, settings.cluster, body.workspace, settings.trusted_keys)
    if found.digest != body.manifest:
        raise DamageError(f"version {body.workspace} of {settings.cluster} is not the one that the receipt is for")
    return found


def discards(settings: SaverSettings, store: Store | None) -> Iterator[Signed[Discard]]:
    """Valid discards of this instance and generation, those beside the state included."""
    local = settings.state / "discards" / f"{settings.instance}-{settings.generation}.json"
    if (data := _bytes(local)) is not None:
        yield from _valid(settings, data, str(local))
    if store is None:
        return
    stem = layout.discard(settings.cluster, settings.instance, settings.generation, 0).removesuffix("0000.json")
    with reaching(store.url):
        keys = [key for key in store.keys(f"discards/{settings.cluster}") if key.startswith(stem)]
        found = [(key, store.read(key)) for key in keys]
    for key, data in found:
        yield from _valid(settings, data, key)


def discard_at(settings: SaverSettings, path: Path) -> Signed[Discard]:
    """The discard in a file beside the state, of whichever generation. Raises EvacuationError, OSError."""
    return Signed(_read(path.read_bytes(), DISCARD, Discard, settings.trusted_keys), str(path))


def _valid(settings: SaverSettings, data: bytes, place: str) -> Iterator[Signed[Discard]]:
    try:
        body = _read(data, DISCARD, Discard, settings.trusted_keys)
    except EvacuationError:
        return
    if body.fits(settings):
        yield Signed(body, place)


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _document(kind: str, body: BaseModel) -> Document:
    fields: dict[str, Any] = body.model_dump(mode="json")
    return Document(kind, VERSION, fields)


def _read(data: bytes, kind: str, model: type[T], trusted: Iterable[str]) -> T:
    try:
        return model.model_validate(verify(data, kind=kind, newest=VERSION, trusted=trusted).body)
    except (DocumentError, ValidationError) as error:
        raise EvacuationError(f"not a valid {kind}: {error}") from None
