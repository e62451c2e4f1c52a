"""What people want of a model's loop reaches the controller as signed, create-only wishes in the store.

A command line may speak while the controller is away, and a controller that dies forgets nothing: what is wanted is
a fold over all wishes, in their order. A wish that nobody trusted signed is set aside with its reason.
"""

from __future__ import annotations

import datetime as dt
import secrets
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator

from stackyard.store import layout
from stackyard.store.documents import Document, DocumentError, verify
from stackyard.store.objects import Store
from stackyard.store.releases import Digest

KIND, VERSION = "wish", 1
Kind = Literal["reject", "promote", "rollback", "train", "pause", "resume", "release_day"]
LARGEST = 16_384
"""Bytes; a larger object is no wish."""
WHOLE_SECONDS = 60.0
"""How often the whole inbox is listed; between, what is much older than the newest known wish is not looked for."""
SKEW_NANOSECONDS = 600 * 10**9
"""Clocks of people's machines that differ by less delay no wish."""


class Wish(BaseModel):
    """One thing that one person wants. Approvals are documents of their own."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: Annotated[str, StringConstraints(pattern=r"^[0-9]{20}-[0-9a-f]{8}$")]
    """Its place in the order: nanoseconds since 1970 of the wisher's machine, then chance."""
    model: str
    kind: Kind
    run: str | None = None
    """The run whose candidate is rejected or promoted."""
    bundle: Digest | None = None
    """The bundle to return to; none rolls back to the champion before."""
    release: int | None = None
    """The Release that was newest when it was said: a rollback that a later Release overtook is not carried out."""
    day: dt.date | None = None
    """The quarantined day to believe after all."""
    because: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    by: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    created: str
    """When it was said by the stack's clock, RFC 3339, UTC."""

    @model_validator(mode="after")
    def _complete(self) -> Wish:
        needed = {"reject": "run", "promote": "run", "release_day": "day"}.get(self.kind)
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f"a wish to {self.kind} names a {needed}")
        return self


@dataclass(frozen=True)
class Refused:
    """An object in the inbox that is no trusted wish."""

    key: str
    reason: str


@dataclass(frozen=True)
class Wanted:
    """What all wishes together say; ids of wishes lead back to who and why."""

    paused: Wish | None = None
    """The pause that holds."""
    train: tuple[Wish, ...] = ()
    """Runs asked for and not begun, oldest first."""
    rejected: dict[str, Wish] = field(default_factory=dict[str, Wish])
    """Runs whose candidates shall never be live; final."""
    promote: dict[str, Wish] = field(default_factory=dict[str, Wish])
    """Runs whose candidates need not wait for stages; gates and approvals they still need."""
    rollback: tuple[Wish, ...] = ()
    """Rollbacks not carried out, oldest first."""
    released: dict[dt.date, Wish] = field(default_factory=dict[dt.date, Wish])
    """Quarantined days that a person believes, with the first wish that said so."""


def new_id() -> str:
    """An id after all those that this machine made before."""
    return f"{time.time_ns():020d}-{secrets.token_hex(4)}"


def send(store: Store, wish: Wish, key: Ed25519PrivateKey) -> bool:
    """Put `wish` into the inbox; False when its id is taken."""
    data = Document(KIND, VERSION, wish.model_dump(mode="json", exclude_none=True)).sign(key)
    return store.create(layout.wish(wish.model, wish.id), data)


class Inbox:
    """Reads a model's wishes; each object is fetched and judged once, since none may ever change."""

    def __init__(
        self, store: Store, model: str, trusted: Iterable[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._model, self._trusted, self._clock = store, model, tuple(trusted), clock
        self._whole: float | None = None
        self._wishes: dict[str, Wish] = {}
        self._refused: dict[str, Refused] = {}

    def read(self) -> list[Wish]:
        """Every trusted wish so far, in order; one that arrives late with a much earlier id is seen in a minute."""
        looked = self._clock()
        whole = self._whole is None or looked - self._whole >= WHOLE_SECONDS
        for key in self._store.keys(f"inbox/{self._model}", after=None if whole else self._after()):
            if key not in self._wishes and key not in self._refused:
                try:
                    self._wishes[key] = _judged(self._store, key, self._model, self._trusted)
                except DocumentError as error:
                    self._refused[key] = Refused(key, str(error))
        if whole:
            self._whole = looked
        return [self._wishes[key] for key in sorted(self._wishes)]

    def _after(self) -> str | None:
        """Wishes are looked for past this key: what nobody trusted signed has no say in it."""
        if not self._wishes:
            return None
        newest = int(self._wishes[max(self._wishes)].id[:20])
        return layout.wish(self._model, f"{max(0, newest - SKEW_NANOSECONDS):020d}")

    @property
    def refused(self) -> list[Refused]:
        """What lies in the inbox and is no trusted wish."""
        return [self._refused[key] for key in sorted(self._refused)]


def read(store: Store, model: str, trusted: Iterable[str], after: str = "") -> list[Wish]:
    """Every trusted wish whose id is past `after`, in order; others are passed over."""
    return [wish for wish in Inbox(store, model, trusted).read() if wish.id > after]


def state(wishes: Iterable[Wish], served: Collection[str] = (), newest: int | None = None) -> Wanted:
    """What `wishes`, in order, say together; those with an id in `served` have been carried out.

    A rollback said of a Release before `newest` is overtaken unless it names a bundle; none is overtaken without it.
    """
    paused: Wish | None = None
    train: list[Wish] = []
    rollback: list[Wish] = []
    rejected: dict[str, Wish] = {}
    promote: dict[str, Wish] = {}
    released: dict[dt.date, Wish] = {}
    for wish in wishes:
        match wish.kind:
            case "pause":
                paused = wish
            case "resume":
                paused = None
            case "train" if wish.id not in served:
                train.append(wish)
            case "rollback" if wish.id not in served and not _overtaken(wish, newest):
                rollback.append(wish)
            case "reject" if wish.run is not None:
                rejected.setdefault(wish.run, wish)
                promote.pop(wish.run, None)
            case "promote" if wish.run is not None and wish.run not in rejected:
                promote.setdefault(wish.run, wish)
            case "release_day" if wish.day is not None:
                released.setdefault(wish.day, wish)
            case _:
                pass
    return Wanted(paused, tuple(train), rejected, promote, tuple(rollback), released)


def _overtaken(wish: Wish, newest: int | None) -> bool:
    return wish.bundle is None and None not in (wish.release, newest) and wish.release != newest


def _judged(store: Store, key: str, model: str, trusted: tuple[str, ...]) -> Wish:
    try:
        data = store.read(key)
    except KeyError:
        raise DocumentError("it vanished") from None
    if len(data) > LARGEST:
        raise DocumentError(f"{len(data)} bytes are no wish")
    body = verify(data, kind=KIND, newest=VERSION, trusted=trusted).body
    try:
        wish = Wish.model_validate(body)
    except ValidationError as error:
        problem = error.errors()[0]
        raise DocumentError(f"{'.'.join(map(str, problem['loc'])) or 'wish'}: {problem['msg']}") from None
    if key != layout.wish(model, wish.id):  # a copy under another name would be a second wish
        raise DocumentError(f"it claims to be wish {wish.id} of {wish.model}")
    if wish.model != model:
        raise DocumentError(f"it is meant for {wish.model}")
    return wish
