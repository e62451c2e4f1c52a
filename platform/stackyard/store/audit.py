"""What was done to a model, by whom and why, as a log that nobody can rewrite unseen.

`audit/<model>/<n>.json`: each entry is signed, holds the sha256 of the stored entry before it, and is create-only, so
of two writers one loses and tries the next number. Releases carry the newest head: a log that was cut short or
replaced no longer holds the heads that were released.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, ValidationError

from stackyard.store import layout, releases
from stackyard.store.documents import Document, DocumentError, public_text
from stackyard.store.documents import verify as verified
from stackyard.store.objects import Store, sha256
from stackyard.store.releases import AuditHead, Digest, Release

KIND, VERSION = "audit", 1
RIVALS = 1000
"""Numbers that may be lost to other writers before an append gives up."""


class Entry(BaseModel):
    """One thing that was done."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str
    number: int
    """The place in the log, from 1."""
    previous: Digest | None = None
    """sha256 of the stored entry before; none for the first."""
    at: str
    """When, by the clock decisions are made by, RFC 3339, UTC."""
    who: str
    """`controller`, or the person whose wish it was."""
    what: str
    """One word or two: `retrained`, `promoted`, `rolled back`, `quarantined` ..."""
    why: str
    facts: dict[str, Any] = {}
    """Figures, digests, numbers; `run_id` where it concerns one run's candidate."""
    event: str | None = None
    """What it is the entry of, once: a second append of the same event adds nothing."""


@dataclass(frozen=True)
class Break:
    """The first place where the log does not hold."""

    number: int
    reason: str


@dataclass(frozen=True)
class Report:
    """What a walk along the log found."""

    entries: int
    releases: int
    """Releases whose signed head lies on the log."""
    sealed: int
    """Entries up to the newest head that a Release carries; only signatures hold those after."""
    head: AuditHead | None
    broken: Break | None

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "entries": self.entries,
            "releases": self.releases,
            "sealed": self.sealed,
            "head": None if self.head is None else self.head.model_dump(),
            "broken": None if self.broken is None else vars(self.broken),
            "sound": self.broken is None,
        }


class Log:
    """A writer's hold on one model's log: it reads only what others added since its last look."""

    def __init__(self, store: Store, model: str, key: Ed25519PrivateKey, trusted: Iterable[str] = ()) -> None:
        self._store, self._model, self._key = store, model, key
        self._trusted = (public_text(key.public_key()), *trusted)
        self._head: AuditHead | None = None
        self._events: dict[str, AuditHead] = {}

    def append(
        self, *, at: str, who: str, what: str, why: str, facts: dict[str, Any] | None = None, event: str | None = None
    ) -> AuditHead:
        """Add one entry after all others and return its place; an `event` that is there already adds nothing.

        Raises DocumentError when the log, as far as it was not seen yet, does not hold.
        """
        for _ in range(RIVALS):
            head = self.head()
            if event is not None and event in self._events:
                return self._events[event]
            number, previous = (1, None) if head is None else (head.number + 1, head.digest)
            entry = Entry(
                model=self._model,
                number=number,
                previous=previous,
                at=at,
                who=who,
                what=what,
                why=why,
                facts=facts or {},
                event=event,
            )
            data = Document(KIND, VERSION, entry.model_dump(mode="json", exclude_none=True)).sign(self._key)
            self._store.create(layout.audit(self._model, number), data)
            self._advance()
            if self._head is not None and self._store.read(layout.audit(self._model, number)) == data:
                return AuditHead(number=number, digest=sha256(data))
        raise DocumentError(f"{RIVALS} other writers were faster")

    def head(self) -> AuditHead | None:
        """The newest entry's place, or None for an empty log. Raises DocumentError for one that does not hold."""
        self._advance()
        return self._head

    def _advance(self) -> None:
        while (data := _read(self._store, self._model, 1 if self._head is None else self._head.number + 1)) is not None:
            entry = _entry(data, self._model, self._head, self._trusted)
            self._head = AuditHead(number=entry.number, digest=sha256(data))
            if entry.event is not None:
                self._events.setdefault(entry.event, self._head)


def head(store: Store, model: str) -> AuditHead | None:
    """The last entry of the unbroken numbers from 1, unverified; None for an empty log."""
    found, data = 0, None
    while (later := _read(store, model, found + 1)) is not None:
        found, data = found + 1, later
    return None if data is None else AuditHead(number=found, digest=sha256(data))


def entries(store: Store, model: str, trusted: Iterable[str]) -> list[Entry]:
    """The entries up to the end or the first break, oldest first, each verified."""
    found: list[Entry] = []
    keys, place = tuple(trusted), None
    while (data := _read(store, model, len(found) + 1)) is not None:
        try:
            found.append(_entry(data, model, place, keys))
        except DocumentError:
            break
        place = AuditHead(number=len(found), digest=sha256(data))
    return found


def verify(store: Store, model: str, trusted: Iterable[str]) -> Report:
    """Walk the whole log and the whole Release chain; `trusted` are public halves of release keys, base64."""
    keys = tuple(trusted)
    digests: list[str] = []
    broken: Break | None = None
    place: AuditHead | None = None
    numbers = _numbers(store, model)
    for number in range(1, max(numbers, default=0) + 1):
        data = _read(store, model, number)
        try:
            if data is None:
                raise DocumentError(f"it is missing, and entry {max(numbers)} is there")
            _entry(data, model, place, keys)
        except DocumentError as error:
            broken = Break(number, f"entry {number}: {error}")
            break
        place = AuditHead(number=number, digest=sha256(data))
        digests.append(place.digest)
    try:
        chain = releases.history(store, model, keys)
    except DocumentError as error:
        chain, broken = [], broken or Break(len(digests), str(error))
    sealed, on_it, off = _heads(store, chain, digests)
    if off is not None and (broken is None or off.number < broken.number):
        broken = off
    return Report(len(digests), on_it, sealed, place, broken)


def _heads(store: Store, chain: list[Release], digests: list[str]) -> tuple[int, int, Break | None]:
    """How far Releases seal the log, how many do, and the first whose head or predecessor is another."""
    sealed = count = 0
    for release in chain:
        if release.number > 1 and release.previous != releases.stored_digest(store, release.model, release.number - 1):
            return sealed, count, Break(sealed, f"release {release.number} does not follow the stored release before")
        if release.audit is None:
            continue
        place = release.audit
        if place.number > len(digests):
            reason = f"release {release.number} was made at entry {place.number}; the log holds {len(digests)}"
            return sealed, count, Break(len(digests) + 1, reason)
        if place.number < sealed or digests[place.number - 1] != place.digest:
            reason = f"entry {place.number} is not the one that release {release.number} was made at"
            return sealed, count, Break(place.number, reason)
        sealed, count = place.number, count + 1
    return sealed, count, None


def _entry(data: bytes, model: str, before: AuditHead | None, trusted: tuple[str, ...]) -> Entry:
    body = verified(data, kind=KIND, newest=VERSION, trusted=trusted).body
    try:
        found = Entry.model_validate(body)
    except ValidationError as error:
        raise DocumentError(f"it lacks or mistypes {error.error_count()} fields") from None
    number = 1 if before is None else before.number + 1
    if (found.model, found.number) != (model, number):
        raise DocumentError(f"it claims to be entry {found.number} of {found.model}")
    if found.previous != (None if before is None else before.digest):
        raise DocumentError("it does not follow the stored entry before")
    return found


def _numbers(store: Store, model: str) -> set[int]:
    stems = (key.rpartition("/")[2].removesuffix(".json") for key in store.keys(f"audit/{model}"))
    return {int(stem) for stem in stems if stem.isdecimal()}


def _read(store: Store, model: str, number: int) -> bytes | None:
    try:
        return store.read(layout.audit(model, number))
    except KeyError:
        return None
