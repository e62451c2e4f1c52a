"""How much may be lent at once: no loop of creations, in however many stacks and processes, gets past a ceiling.

A cluster is admitted before anything of it starts, and its place is given back after the last of it has ended. Places
are files in the user's own state folder, written under one lock, so at no instant do they come to more than was
allowed, and what runs never comes to more than they do:

    $XDG_STATE_HOME/stackyard/leases/<stack id>-<cluster>.json  {folder, tag, workers, cpus, gpus, where, by}

A place is let go without being given back only when it is certain that it holds nothing: whoever took it is gone, the
cluster's folder is gone or says that all of it has ended, and nothing with its tag runs. Places of an earlier boot hold
nothing, and those of another machine with the same home say nothing of this one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stackyard_infra.provider import tagged
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.private import read_plain, write_plain
from stackyard_infra.provider.site import private_folder
from stackyard_infra.provider.usage import Usage


@dataclass(frozen=True)
class Size:
    """How big a cluster is; CPUs and GPUs are of each worker."""

    workers: int
    cpus: int
    gpus: int

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Size:
        """The size that a lease, or a place, names."""
        return cls(int(found.get("workers", 1)), int(found.get("cpus", 0)), int(found.get("gpus", 0)))

    def figures(self) -> dict[str, int]:
        """What it adds to each figure of a ceiling."""
        return {"clusters": 1, "cpus": self.workers * self.cpus, "gpus": self.workers * self.gpus}


def places_folder() -> Path:
    """Where this user's places are kept."""
    told = os.environ.get("XDG_STATE_HOME", "")
    base = Path(told) if os.path.isabs(told) else Path.home() / ".local" / "state"
    return base / "stackyard" / "leases"


def where() -> str:
    """Where processes can be seen from here: this boot of this machine, and this container's part of it."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"


class Ceiling:
    """The ceiling of `limits` (`clusters`, `cpus`, `gpus`; None: none) over every place in `folder`."""

    def __init__(self, limits: Mapping[str, int | None], folder: Path) -> None:
        self._limits, self._folder = limits, folder

    def admit(self, name: str, cluster: Path, tag: str, size: Size, *, keep: bool = False) -> None:
        """Take a place for the cluster that lies in the folder `cluster`, or change the place that it has.

        With `keep` the place stays as big as it was where that is bigger. Raises Refusal when it would be too much.
        """
        with self._held():
            places = self._living()
            before = Size.of(places[name]) if name in places else None
            if keep and before is not None:
                size = Size(*(max(pair) for pair in zip(asdict(before).values(), asdict(size).values(), strict=True)))
            if before is None or _grows(before, size):
                self._fits(name, size, {other: Size.of(each) for other, each in places.items() if other != name})
            place = {"folder": str(cluster), "tag": tag, "where": where(), "by": _oneself()}
            write_plain(self._file(name), place | asdict(size))

    def give_back(self, name: str) -> None:
        """Nothing of the cluster runs any more."""
        if self._file(name).exists():
            with self._held():
                self._file(name).unlink(missing_ok=True)

    def used(self, without: str = "") -> dict[str, int]:
        """What all places but those of names that begin with `without` come to; changes nothing."""
        places = {name: each for name, each in self._places().items() if not (without and name.startswith(without))}
        sizes = [Size.of(each).figures() for each in places.values() if not _let_go(each)]
        return {figure: sum(size[figure] for size in sizes) for figure in ("clusters", "cpus", "gpus")}

    def _fits(self, name: str, size: Size, others: Mapping[str, Size]) -> None:
        for figure, asked in size.figures().items():
            most = self._limits.get(figure)
            used = sum(other.figures()[figure] for other in others.values())
            if most is not None and used + asked > most:
                open_now = f" (open now: {', '.join(sorted(others))})" if others else ""
                raise Refusal(
                    f"Cluster {name.partition('-')[2]} is not opened: with it the leased clusters of this user here "
                    f"would come to {used + asked} {figure}, and the ceiling is {most}{open_now}. "
                    f"End one, or raise ceiling.{figure} in the stack's file."
                )

    def _living(self) -> dict[str, dict[str, Any]]:
        """Every place that holds something; the others are dropped."""
        places = self._places()
        for name in [name for name, each in places.items() if _let_go(each)]:
            self._file(name).unlink(missing_ok=True)
            del places[name]
        return places

    def _places(self) -> dict[str, dict[str, Any]]:
        """The places of this boot of this machine."""
        here, found = where(), {}
        for file in self._folder.glob("*.json"):
            place = read_plain(file)
            if isinstance(place, dict) and place.get("where") == here:
                found[file.stem] = place
        return found

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        private_folder(self._folder)
        with open(self._folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _grows(before: Size, size: Size) -> bool:
    was = before.figures()
    return any(asked > was[figure] for figure, asked in size.figures().items())


def _let_go(place: Mapping[str, Any]) -> bool:
    """Whether a place certainly holds nothing."""
    folder = Path(place["folder"])
    if _lives(place.get("by")) or not (_closed(folder) or not folder.exists()):
        return False
    return not tagged.carrying(place["tag"])


def _closed(folder: Path) -> bool:
    """Whether nothing may run in the cluster, and nothing does: it is sealed or suspended, and all of it has ended."""
    record, suspended = read_plain(folder / "instance.json"), read_plain(folder / "suspended.json")
    if not isinstance(record, dict):
        return False
    same = isinstance(suspended, dict) and all(
        suspended.get(name) == record.get(name) for name in ("instance", "generation")
    )
    return (bool(record.get("sealed")) or same) and not Usage(folder).open()


def _oneself() -> list[int]:
    return [os.getpid(), tagged.started(os.getpid()) or 0]


def _lives(by: Any) -> bool:
    """Whether the process that took the place lives: the pid, and not another that has it now."""
    return isinstance(by, list) and len(by) == 2 and by[1] != 0 and tagged.started(by[0]) == by[1]
