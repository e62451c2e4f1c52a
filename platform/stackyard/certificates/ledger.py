"""The ledger: everything that a stack, or one leased cluster of it, was expected to have while it was up.

Infra writes it, at every `up`, and never takes anything out of it: what was renamed or removed stays named until a
certificate found it gone. Pure, so that what is judged by it can be judged in a test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

VERSION = 1
CLUSTER = "STACKYARD_CLUSTER"
TAGS = ("STACKYARD_STACK_ID", "STACKYARD_PROCESS", CLUSTER)
"""What our processes carry in their environment."""


class LedgerError(Exception):
    """A ledger that cannot be read; the message says which and why."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Port(_Part):
    """A TCP port that something of it listened on."""

    name: str
    port: int


class Address(_Part):
    """A loopback address of a Ray cluster."""

    name: str
    address: str


class SharedFile(_Part):
    """A file in /dev/shm that a process held while it ran; by its inode, since names are given again."""

    path: Path
    inode: int


class Instance(_Part):
    """A leased cluster that was really made."""

    cluster: str
    instance: str


class Kept(_Part):
    """What outlives it on purpose."""

    what: str
    path: str


class Ledger(_Part):
    """What is expected. Folders, sockets and shared files are to be gone afterwards; what is `kept` is not."""

    version: Literal[1]
    subject: Literal["stack", "cluster"]
    stack: str
    stack_id: str
    state: Path
    """The stack's folder in the checkout."""
    runtime: Path
    """The stack's folder under /tmp, for sockets and Ray sessions."""
    certificates: Path
    """Where copies of certificates lie, whatever becomes of the store."""
    receipt_key: Path
    store: str | None = None
    opened: str
    """When it was first expected (ISO, UTC)."""
    closed: str | None = None
    """When its end was first asked for (ISO, UTC)."""
    cluster: str | None = None
    instance: str | None = None
    processes: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    addresses: tuple[Address, ...] = ()
    sockets: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()
    shared_memory: tuple[SharedFile, ...] = ()
    prefixes: tuple[str, ...] = ()
    """Parts of the store that it wrote to, which stay."""
    kept: tuple[Kept, ...] = ()
    instances: tuple[Instance, ...] = ()
    hourly_price: float | None = None
    """Of the whole cluster; None where nobody said."""
    complete: bool = True
    """False where only the stack's id and folders were known, since no ledger was kept."""

    @property
    def subject_name(self) -> str:
        """`stack lab` or `cluster bench`, for people."""
        return f"stack {self.stack}" if self.subject == "stack" else f"cluster {self.cluster}"

    @property
    def ours(self) -> tuple[str, ...]:
        """Folders whose open files tell whose a process without a tag is."""
        return tuple(str(path) for path in ((self.runtime,) if self.subject == "stack" else self.folders))

    @property
    def tag(self) -> str:
        """What those that write in the workspace carry as STACKYARD_CLUSTER; of a stack, how all of them begin."""
        return f"{self.stack_id}/{self.cluster or ''}"

    def owns(self, tags: dict[str, str]) -> bool:
        """Whether a process that carries these tags is its."""
        if self.subject == "stack":
            return tags.get("STACKYARD_STACK_ID") == self.stack_id or tags.get(CLUSTER, "").startswith(self.tag)
        named = tags.get("STACKYARD_PROCESS") in {*self.processes, f"evacuation-{self.cluster}"}
        same_stack = tags.get("STACKYARD_STACK_ID") == self.stack_id
        return tags.get(CLUSTER) == self.tag or (same_stack and named)

    @property
    def price_a_day(self) -> float | None:
        """What one of its processes costs a day: its share of the cluster's price. None where nobody said."""
        if self.hourly_price is None or not self.processes:
            return None
        return round(24 * self.hourly_price / len(self.processes), 4)


def read(raw: Any, place: str) -> Ledger:
    """The ledger in plain data. Raises LedgerError."""
    try:
        return Ledger.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "ledger"
        raise LedgerError(f"{place} is no ledger that this program reads: {where}: {first['msg']}") from None
