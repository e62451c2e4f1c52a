"""What a look at a machine brings back: plain data, which the judgement of leaks takes as its argument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Seen:
    """A live process. `files`: open or mapped files, working folder and unix sockets that lie where one looked."""

    pid: int
    parent: int
    command: str
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    files: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Listener:
    """A TCP socket that takes connections. `pids` hold it (none: its process cannot be seen), `mine`: of this user."""

    address: str
    port: int
    pids: frozenset[int] = frozenset()
    mine: bool = True


@dataclass(frozen=True)
class Lying:
    """Something on a disk or in shared memory: its kind (folder, file, socket), bytes and inode."""

    kind: str
    size: int
    inode: int


@dataclass(frozen=True)
class Scene:
    """The machine at one moment, without whoever looks and its ancestors."""

    processes: Mapping[int, Seen] = field(default_factory=dict[int, Seen])
    listeners: tuple[Listener, ...] = ()
    lying: Mapping[str, Lying] = field(default_factory=dict[str, Lying])
    """What there is of the paths that were asked for."""
