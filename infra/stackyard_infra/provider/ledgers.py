"""The ledgers of a stack: what is expected of it and of its leased clusters, kept on disk while they are up.

    STATE/ledger.json                    of the whole stack
    STATE/leases/CLUSTER/ledger.json     of a leased cluster

Every `up` adds to them and takes nothing out: what was renamed, moved to another port or removed stays named until a
certificate found it gone. Files in shared memory are added as they are seen to be held, since nothing says afterwards
whose they were.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from stackyard_infra.provider import tagged
from stackyard_infra.provider.kinds import Kind, Plain
from stackyard_infra.provider.private import read_plain, write_plain
from stackyard_infra.provider.site import Site, private_folder, remove_folder

VERSION = 1
GROWING = ("processes", "ports", "addresses", "sockets", "folders", "shared_memory", "prefixes", "instances")
"""Parts that only grow."""


class Ledgers:
    """The ledgers of one site."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.path = site.state / "ledger.json"
        self.certificates = site.state / "certificates"

    def of_cluster(self, cluster: str) -> Path:
        """Where a leased cluster's ledger lies while it has one."""
        return self.site.state / "leases" / cluster / "ledger.json"

    def expect(self, told: Mapping[str, Any]) -> None:
        """Add what the program tells of the whole stack."""
        self._add(self.path, {**told, "complete": True})

    def expect_cluster(
        self, cluster: str, instance: str, told: Mapping[str, Any], processes: Iterable[Mapping[str, Any]]
    ) -> None:
        """Add what the program tells of a leased cluster, and that this instance of it was made."""
        running = list(processes)
        scratch = [each["scratch"] for each in running if each.get("scratch")]
        own = {"subject": "cluster", "cluster": cluster, "instance": instance, "complete": bool(told)}
        names = [each["name"] for each in running]
        folders = [str(self.of_cluster(cluster).parent), *scratch, *(str(self.site.of_process(name)) for name in names)]
        found = {**told, **own, "processes": names, "folders": [*told.get("folders", []), *folders]}
        self._add(self.of_cluster(cluster), found)
        self._add(self.path, {"instances": [{"cluster": cluster, "instance": instance}]})

    def notice(self, processes: Iterable[psutil.Process], cluster: str | None = None) -> None:
        """Add the files in shared memory that `processes` hold now and that are of their making, as far as can be
        seen: what is older than the ledger, or held by somebody outside of the stack, too, was there to be read."""
        mine = {process.pid: process for process in processes}
        path = self.path if cluster is None else self.of_cluster(cluster)
        files = tagged.shared_memory(mine.values())
        if not files or not path.parent.is_dir():
            return
        files -= tagged.shared_memory(
            each for each in psutil.process_iter()
            if each.pid not in mine and tagged.tags_of(each.pid).get(tagged.STACK_TAG) != self.site.stack_id
        )  # fmt: skip
        since = self._opened(path)
        held = [{"path": str(file), "inode": inode} for file in sorted(files)
                if (inode := _inode(file)) is not None and _changed(file) >= since]  # fmt: skip
        if held:
            subject = {} if cluster is None else {"subject": "cluster", "cluster": cluster}
            with contextlib.suppress(OSError):  # a full disk holds up nobody's end
                self._add(path, {**subject, "shared_memory": held})

    def _opened(self, path: Path) -> float:
        """Since when this stack's ledger at `path` is kept (seconds since 1970); 0 where there is none yet."""
        known = read_plain(path)
        mine = isinstance(known, dict) and known.get("stack_id") == self.site.stack_id and known.get("opened")
        return dt.datetime.fromisoformat(known["opened"]).timestamp() if mine else 0.0

    def sweep(self, ledger: Path) -> None:
        """Remove what `ledger` names and nobody needs: shared memory that nobody holds; of a cluster, what was made
        from nothing (Ray's sessions, settings of processes) and a killed deletion left."""
        known = read_plain(ledger) or {}
        for path in map(
            Path, known.get("folders", []) if known.get("subject") == "cluster" and "closed" in known else []
        ):
            if any(path.is_relative_to(place) and path != place for place in (self.site.runtime, self.site.etc)):
                remove_folder(path)
        named = {each["path"]: each["inode"] for each in known.get("shared_memory", [])}
        left = {path for path, inode in named.items() if _inode(Path(path)) == inode}
        if left:
            held = {str(path) for path in tagged.shared_memory(psutil.process_iter())}
            for path in left - held:
                with contextlib.suppress(OSError):
                    os.unlink(path)

    def closing(self) -> Path:
        """The stack's ledger, with the time at which its end was first asked for; one that nobody kept is made."""
        known = read_plain(self.path) or {}
        self._add(self.path, {"closed": known.get("closed") or _now()})
        return self.path

    def expect_gone(self, path: Path, known: Mapping[str, Any]) -> None:
        """See that the copy of a cluster's ledger at `path` is whole: its end was asked for now, whoever lost what."""
        before = read_plain(path) or {}
        told = {name: value for name, value in known.items() if value is not None and not before.get(name)}
        folders = [str(self.of_cluster(known["cluster"]).parent)]
        self._add(path, {**told, "subject": "cluster", "folders": folders, "closed": _now()})

    def _add(self, path: Path, told: Mapping[str, Any]) -> None:
        private_folder(self.site.state)
        with self._locked():
            before = read_plain(path)
            ours = isinstance(before, dict) and before.get("stack_id", self.site.stack_id) == self.site.stack_id
            known = moved(before, self.site.state) if ours else self._ground(told)  # else: of a checkout copied here
            write_plain(path, merged(known, {**told, **self._where()}))

    def _ground(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """What is known without being told."""
        ground = {"version": VERSION, "subject": "stack", "opened": _now(), "complete": False}
        if told.get("subject") == "cluster":
            return ground
        folders = (self.site.runtime, self.site.etc, self.site.state / "cache", self.site.state / "leases")
        return ground | {"folders": [str(path) for path in folders], "sockets": [str(self.site.socket)]}

    def _where(self) -> dict[str, Any]:
        """What is true of where it lies now."""
        return {
            "stack": self.site.stack,
            "stack_id": self.site.stack_id,
            "state": str(self.site.state),
            "runtime": str(self.site.runtime),
            "certificates": str(self.certificates),
            "receipt_key": str(self.site.state / "keys" / "receipt-key"),
        }

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Resources are made and deleted side by side. The folder is the lock, so that no file is left."""
        descriptor = os.open(self.site.state, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class LedgerKind(Kind):
    """The stack's ledger, written before anything of it starts. It outlives this resource: its end is a certificate's,
    which is given when the site is deleted."""

    def name(self, inputs: Plain) -> str:
        return "ledger"

    def create(self, inputs: Plain) -> dict[str, Any]:
        Ledgers(Site.of(inputs)).expect(inputs["ledger"])
        return {}

    def read(self, state: Plain) -> dict[str, Any] | None:
        return {} if Ledgers(Site.of(state)).path.exists() else None

    def update(self, state: Plain, inputs: Plain) -> dict[str, Any]:
        return self.create(inputs)


def merged(before: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """`told` added to `before`: what grows keeps all that it ever held, in order; of the rest, the newest holds."""
    result = {**before, **told}
    for name in GROWING:
        found: list[Any] = []
        for each in (*before.get(name, ()), *told.get(name, ())):
            if each not in found:
                found.append(each)
        result[name] = found
    if "closed" not in told:
        result.pop("closed", None)  # it goes on
    result["opened"] = min(filter(None, (before.get("opened"), told.get("opened"))))
    return result


def moved(ledger: Mapping[str, Any], state: Path) -> dict[str, Any]:
    """`ledger`, true for where the stack's folder lies now that its checkout was moved."""
    old, new = str(ledger.get("state", state)), str(state)

    def true(value: Any) -> Any:
        if isinstance(value, str):
            return new + value[len(old) :] if value == old or value.startswith(f"{old}/") else value
        if isinstance(value, dict):
            return {name: true(inner) for name, inner in value.items()}
        return [true(inner) for inner in value] if isinstance(value, list) else value

    return true(dict(ledger)) if old != new else dict(ledger)


def _inode(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except OSError:
        return None


def _changed(path: Path) -> float:
    """When it was last written or made; 0 where it is gone."""
    try:
        return path.lstat().st_ctime
    except OSError:
        return 0.0


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
