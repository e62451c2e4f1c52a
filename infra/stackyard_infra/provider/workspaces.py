"""One leased cluster on this disk: its workspace, whose work it is, and the processes that may write in it.

    STATE/leases/CLUSTER/workspace/       what people made; nobody but people writes here
                        /instance.json    which instance lives here, its generation, whether it is sealed
                        /evacuation.json  what the evacuation needs to know; made again before each use
                        /processes.json   what runs while it is open
                        /lease.json       when it ends, who owns it, how often it is saved, how it is suspended
                        /usage.jsonl      when it ran, and how big
                        /suspended.json   why nothing of it runs, while it is suspended; whoever suspends writes it

Sealed means: nothing of it runs, and what runs is started by opening it, which makes a new generation. So a receipt,
which names instance and generation, is worthless the moment that anybody may write again. Suspended means: nothing of
it runs either, but the generation goes on; anybody may suspend, and what was suspended is resumed as it was.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from stackyard_infra.provider import notes
from stackyard_infra.provider.ceilings import Ceiling, Size, places_folder
from stackyard_infra.provider.daemon import Daemon
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.groups import ProcessGroup
from stackyard_infra.provider.holding import Hold
from stackyard_infra.provider.ledgers import Ledgers
from stackyard_infra.provider.private import read_plain, write_plain
from stackyard_infra.provider.site import Site, private_folder, refuse_mounted, remove_folder, write_private
from stackyard_infra.provider.usage import Usage, figures_of

CLUSTER_TAG = "STACKYARD_CLUSTER"
"""In the environment of every process that may write in a workspace; its value is `<stack id>/<cluster>`."""


@dataclass(frozen=True)
class Record:
    """Which instance lives in the workspace. `generation` grows each time that it is opened, `opened` is when that
    was first (ISO, UTC)."""

    instance: str
    generation: int = 0
    sealed: bool = True
    opened: str = ""


class Workspace:
    """The workspace of `cluster` at `site`. Every method may be repeated after a kill."""

    def __init__(self, site: Site, cluster: str, daemon: Callable[[Site], Daemon] = Daemon) -> None:
        self.site, self.cluster = site, cluster
        self.folder = site.state / "leases" / cluster
        self.path = self.folder / "workspace"
        self.settings = self.folder / "evacuation.json"
        self.tag = f"{CLUSTER_TAG}={site.stack_id}/{cluster}"
        self._daemon = daemon
        self.held = Hold(self.folder)
        """One hand at a time starts, ends or removes: without this, what is being suspended could be started."""

    @classmethod
    def at(cls, folder: Path) -> Workspace:
        """The cluster that lies in `folder`, wherever it was moved. Raises Refusal for one that is none, or a copy."""
        told = (read_plain(folder / "lease.json") or {}) | (read_plain(folder / "evacuation.json") or {})
        stack_id, state = told.get("stack_id"), folder.resolve().parents[1]
        if not isinstance(stack_id, str):
            raise Refusal(f"{folder} holds no leased cluster: neither lease.json nor evacuation.json says whose it is.")
        notes.refuse_copy(folder.resolve(), told.get("checkout"))
        return cls(Site(state.name, stack_id, state, Path(f"/tmp/sy-{os.getuid()}-{stack_id}")), folder.name)

    def record(self) -> Record | None:
        """Who lives here, or None when that is not known."""
        found = read_plain(self.folder / "instance.json")
        return Record(**found) if isinstance(found, dict) and found.keys() == asdict(Record("")).keys() else None

    def sealed(self) -> bool:
        """Whether nothing of it may run: it was never opened, or an evacuation ended, though its gate was killed."""
        record, noted = self.record(), read_plain(self.folder / "saver" / "sealed.json")
        if record is None or record.sealed:
            return record is not None
        same = (record.instance, record.generation)
        return isinstance(noted, dict) and (noted.get("instance"), noted.get("generation")) == same

    def suspended(self) -> dict[str, Any] | None:
        """Who suspended it and why, or None. What was said of an earlier opening says nothing of this one."""
        file, record = self.folder / "suspended.json", self.record()
        if record is None or not file.exists():
            return None
        found = read_plain(file)
        if not isinstance(found, dict) or not isinstance(found.get("generation"), int):
            return {"reason": "asked", "because": f"{file} cannot be read"}  # so that only a person undoes it
        return found if found.get("instance") == record.instance and found["generation"] >= record.generation else None

    def empty(self) -> bool:
        """Whether there is nothing that could be lost."""
        try:
            with os.scandir(self.path) as entries:
                return next(entries, None) is None
        except FileNotFoundError:
            return True
        except OSError:
            return False  # what cannot be read is not known to be nothing

    def adopt(self) -> Record:
        """Make what is missing around the work that is there; an instance that is known stays the same."""
        for folder in (self.site.state / "leases", self.folder, self.path, self.site.state / "keys"):
            private_folder(folder)
        self._clear()
        for name in ("ray-token", "notebook-token"):
            if not (self.folder / name).exists():
                write_private(self.folder / name, secrets.token_hex(32))
        return self.record() or self._write(Record(secrets.token_hex(8)))

    def describe(
        self, evacuation: Mapping[str, Any], processes: list[dict[str, Any]], lease: Mapping[str, Any]
    ) -> None:
        """Keep what the evacuation, the gate and the calendar need when no program tells them."""
        for name in sorted({each["name"] for each in self._known()} - {each["name"] for each in processes}):
            self._group().end_one(name)
        write_plain(self.folder / "processes.json", processes)
        before = self.lease()
        write_plain(self.folder / "lease.json", notes.lease(self.site, self.folder, self.tag, lease, before))
        self.prepare(told=evacuation)

    def prepare(self, store: str | None = None, told: Mapping[str, Any] | None = None) -> Path:
        """The settings of the evacuation, true for where the workspace lies now and who lives in it.

        `told` is what the program asks for; without it, what it last asked for holds, or `store` where that was lost.
        """
        before = read_plain(self.settings) or {}
        known = before if told is None else {**told, "trusted_keys": before.get("trusted_keys", [])}
        record = self.record() or self.adopt()
        known = ({"store": store} if store else {}) | known
        settings = notes.evacuation(self.site, self.folder, self.tag, known, record.instance, record.generation)
        if settings != before:
            write_plain(self.settings, settings)
        return self.settings

    def unseal(self) -> Record:
        """Say that work may begin: before anything starts, so that no receipt of before holds any more."""
        record = self.record() or self.adopt()
        first = record.opened or self.now().isoformat(timespec="seconds")
        opened = self._write(replace(record, generation=record.generation + 1, sealed=False, opened=first))
        (self.folder / "suspended.json").unlink(missing_ok=True)  # it said something of an earlier generation
        self.prepare()
        return opened

    def lease(self) -> dict[str, Any]:
        """When it ends and whose it is, as the program last said."""
        return read_plain(self.folder / "lease.json") or {}

    def now(self) -> dt.datetime:
        """The stack's time (UTC)."""
        clock = self.lease().get("clock")
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
            if clock:  # a second line says up to when all is known
                return dt.datetime.fromisoformat(Path(clock).read_text().split()[0])
        return dt.datetime.now(dt.UTC)

    def admit(self, lease: Mapping[str, Any] | None = None, *, growing: bool = False) -> None:
        """Take the place under the ceiling that the cluster needs, before anything of it starts.

        `lease` is what the program asks for now; `growing`: what is larger still runs. Raises Refusal.
        """
        told = self.lease() if lease is None else lease
        self._ceiling(told).admit(self._place(), self.folder, self.tag, Size.of(told), keep=growing)

    def start(self) -> None:
        """Run what the cluster consists of; what runs already as it should is left alone. Raises Refusal."""
        with self.held():
            record = self.record()
            if record is None or self.suspended() is not None:
                return
            self.admit()
            figures, group = figures_of(self.lease(), record.generation), self._group()
            Usage(self.folder).opened(figures, self.now(), runs=bool(group.living()))
            group.start()

    def end(self) -> None:
        """End every process at once (nothing may write any more, not even while it ends)."""
        with self.held():
            group, ledgers = self._group(), Ledgers(self.site)
            living = group.living()
            ledgers.notice(living, self.cluster)
            group.end()
            ledgers.sweep(ledgers.of_cluster(self.cluster))
            Usage(self.folder).closed(self.now(), ran=bool(living))
            self._ceiling(self.lease()).give_back(self._place())

    def seal(self) -> None:
        """End every process, and say that nothing runs until it is opened."""
        with self.held():
            self.end()
            record = self.record()
            if record is not None:
                self._write(replace(record, sealed=True))

    def supervised(self) -> bool:
        """Whether there is a supervisor to start anything."""
        return self._group().supervised()

    def sound(self) -> bool:
        """Whether everything runs that should, none of it stopped by a freeze that nobody thawed."""
        return self.path.is_dir() and self._group().sound()

    def writers(self) -> list[psutil.Process]:
        """Live processes of this cluster's, whatever became of their parents."""
        return self._group().living()

    def remove(self) -> None:
        """Take everything away. The workspace leaves its place in one step: a half removed one is never adopted."""
        refuse_mounted(self.folder)
        if self.path.exists():
            self.path.rename(self.folder / f".removed-{secrets.token_hex(4)}")
        self._clear()
        self._group().clear()
        remove_folder(self.folder)
        with contextlib.suppress(OSError):  # others live there, too
            self.folder.parent.rmdir()

    def _clear(self) -> None:
        for removed in self.folder.glob(".removed-*"):
            for folder, inside, _ in os.walk(removed):  # what its owner closed to himself goes, too
                for each in (os.path.join(folder, name) for name in inside):
                    if not os.path.islink(each):
                        os.chmod(each, 0o700)
            remove_folder(removed)

    def _group(self) -> ProcessGroup:
        return ProcessGroup(self.site, self.path, self.tag, self._known(), self._daemon)

    def _ceiling(self, lease: Mapping[str, Any]) -> Ceiling:
        return Ceiling(lease.get("ceiling") or {}, Path(self.lease().get("places") or places_folder()))

    def _place(self) -> str:
        return f"{self.site.stack_id}-{self.cluster}"

    def _known(self) -> list[dict[str, Any]]:
        return read_plain(self.folder / "processes.json") or []

    def _write(self, record: Record) -> Record:
        write_plain(self.folder / "instance.json", asdict(record))
        return record
