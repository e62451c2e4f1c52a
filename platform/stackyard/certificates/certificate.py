"""The certificate: what was looked for and found, and what it cost, signed; in the store, and beside the stack.

The copy beside the stack is there also when the store is away or was not to be kept. With it lie the public halves of
the keys that signed: locally that proves that nobody changed a certificate since, not who wrote it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, ValidationError

from stackyard.certificates.ledger import Ledger
from stackyard.store import layout
from stackyard.store.documents import Document, DocumentError, public_text, verify
from stackyard.store.keys import KeyFileError, ensure_signing_key, write_private
from stackyard.store.objects import Store, sha256

KIND, VERSION = "certificate", 1
TRUST = "trust.json"
Verdict = Literal["clean", "given-up", "leaked", "lost", "unproven"]


class CertificateError(Exception):
    """A certificate that cannot be found or trusted; the message says which and why."""


class Certificate(BaseModel):
    """The body of the document. Times are ISO, UTC."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    number: int
    subject: Literal["stack", "cluster"]
    stack: str
    stack_id: str
    cluster: str | None = None
    instance: str | None = None
    generation: int | None = None
    verdict: Verdict
    clean: bool
    """Nothing leaked, nothing lost, nothing given up."""
    opened: str
    closed: str
    issued: str
    ledger: dict[str, Any]
    ledger_digest: str
    """sha256 of the canonical JSON of `ledger`."""
    looked: dict[str, dict[str, int]]
    """Kind of thing: {expected, found}."""
    leaks: list[dict[str, Any]]
    """Each {kind, what, why, price, size}: price a day (null: nobody said), bytes."""
    others: list[str]
    """What looks like ours and is somebody else's."""
    losses: list[str]
    given_up: list[dict[str, Any]]
    receipt: dict[str, Any] | None = None
    saver: dict[str, Any] | None = None
    """What is needed to read the store again, without secrets."""
    usage: dict[str, Any]
    """{openings, seconds, cpu_hours, gpu_hours, cost, assumed, unread}; empty where nobody noted any."""
    kept: list[dict[str, Any]]
    """Each {what, path, there}."""
    clusters: list[dict[str, Any]] = []
    """Of a stack: the certificates of its clusters, each {cluster, instance, name, place, digest, verdict}."""
    software: dict[str, str]

    @property
    def stem(self) -> str:
        """Its name without number: `stack`, or `cluster-<name>-<instance>`."""
        return "stack" if self.subject == "stack" else f"cluster-{self.cluster}-{self.instance}"

    @property
    def name(self) -> str:
        """What people call it."""
        return layout.certificate_name(self.stem, self.number)

    @property
    def title(self) -> str:
        """`stack lab` or `cluster bench`."""
        return f"stack {self.stack}" if self.subject == "stack" else f"cluster {self.cluster}"


@dataclass(frozen=True)
class Given:
    """A certificate that can be trusted. `place`: its key in the store, or its file where the store was away."""

    body: Certificate
    path: Path
    place: str
    digest: str


def give(ledger: Ledger, body: Callable[[int], Certificate], store: Store | None, away: list[str]) -> Given:
    """Sign `body(number)` and keep it twice; what the store says when it does not take it goes to `away`."""
    key = signing_key(ledger.receipt_key)
    trust(ledger.certificates, public_text(key.public_key()), ledger.store)
    for number in range(1, 10_000):
        made = body(number)
        path = ledger.certificates / f"{made.name}.json"
        if path.exists():
            continue
        data = Document(KIND, VERSION, made.model_dump(mode="json")).sign(key)
        place = layout.certificate(made.stack_id, made.stem, number)
        if store is not None:
            try:
                if not store.create(place, data):
                    continue
            except Exception as error:  # noqa: BLE001 (whatever the store says: the copy beside the stack remains)
                away.append(" ".join(str(error).split())[:200])
                store = None
        with contextlib.suppress(FileExistsError):
            write_private(path, data)
            return Given(made, path, place if store is not None else str(path), sha256(data))
    raise CertificateError(f"there are too many certificates in {ledger.certificates}")


def signing_key(path: Path) -> Ed25519PrivateKey:
    """The receipt key. A stack that kept no keys gets one for this once, whose public half alone stays."""
    if not path.parent.is_dir():
        return Ed25519PrivateKey.generate()
    try:
        return ensure_signing_key(path)
    except (KeyFileError, ValueError, OSError) as error:
        raise CertificateError(f"the receipt key: {error}") from None


def trust(folder: Path, public: str, store: str | None) -> None:
    """Note that `public` signs certificates here, and where the store is."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    known = trusted(folder)
    plain = {"version": 1, "trusted": sorted({*known, public}), "store": store}
    scratch = folder / f".{TRUST}.{os.getpid()}"
    scratch.write_text(json.dumps(plain, indent=1))
    scratch.chmod(0o600)
    scratch.replace(folder / TRUST)


def trusted(folder: Path) -> tuple[str, ...]:
    """Public halves that sign certificates of the stack whose folder of certificates this is."""
    return tuple(_noted(folder).get("trusted", ()))


def store_of(folder: Path) -> str | None:
    """Where the stack's store is, or was."""
    return _noted(folder).get("store")


def read(data: bytes, path: Path, keys: Iterable[str], place: str | None = None) -> Given:
    """The certificate in `data`. Raises CertificateError when it cannot be trusted."""
    try:
        document = verify(data, kind=KIND, newest=VERSION, trusted=keys)
        body = Certificate.model_validate(document.body)
    except (DocumentError, ValidationError) as error:
        raise CertificateError(f"{path.name}: {error}") from None
    return Given(body, path, place or str(path), sha256(data))


def issued(folder: Path) -> Iterator[Given]:
    """Every certificate beside the stack that can be trusted, oldest first."""
    keys, found = trusted(folder), list[Given]()
    for path in folder.glob("*.json"):
        if path.name != TRUST:
            with contextlib.suppress(CertificateError, OSError):
                found.append(read(path.read_bytes(), path, keys))
    yield from sorted(found, key=lambda each: (each.body.issued, each.body.number))


def _noted(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / TRUST).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
