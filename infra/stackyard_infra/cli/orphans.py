"""Clusters whose stack is gone: found by our tag, held to be orphans only where their backend answers so.

They are what `pulumi stack rm --force` leaves: nobody's `destroy` reaches them any more. First they are saved and
suspended. Taken away they are only when asked for, as their own gate and cluster would: evacuated, with a receipt,
sealed, certified.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from stackyard_infra.cli.backends import Backends, Unanswered
from stackyard_infra.cli.checkouts import folders, stacks
from stackyard_infra.provider import standing
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.leases import EvacuationGateKind, LeasedClusterKind
from stackyard_infra.provider.private import read_plain
from stackyard_infra.provider.workspaces import CLUSTER_TAG, Workspace

WORKSPACE_TAG = "STACKYARD_WORKSPACE"
Plain = dict[str, Any]


class Orphans:
    """What carries our tag, as seen from `checkout`; of `stack` alone, where one is named."""

    def __init__(
        self,
        checkout: Path,
        stack: str | None = None,
        exists: Callable[[str | None, str], bool] | None = None,
        leasing: Sequence[str] = standing.MODULE,
        gates: EvacuationGateKind | None = None,
        clusters: LeasedClusterKind | None = None,
        running: Callable[[], Iterable[tuple[str, Path]]] | None = None,
    ) -> None:
        self._checkout, self._stack, self._leasing = checkout, stack, leasing
        self._running = running or running_clusters
        self._exists = exists or Backends(checkout).exists
        self._exists_now = exists or (lambda backend, stack: Backends(checkout).exists(backend, stack))
        self._gates, self._clusters = gates or EvacuationGateKind(), clusters or LeasedClusterKind()

    def reap(self, *, remove: bool) -> list[Plain]:
        """Every cluster that may be an orphan, what was found of it and what was done. `remove`: take orphans away."""
        found = [self._one(folder, tag, remove=remove) for folder, tag in sorted(self._found().items())]
        return [each for each in found if each is not None]

    def _found(self) -> dict[Path, str | None]:
        """Folders of clusters: those of this checkout, and of whatever runs with our tag; with that tag."""
        found: dict[Path, str | None] = {
            folder: None for stack in stacks(self._checkout) for folder in folders(stack, self._checkout)
        }
        for tag, workspace in self._running():
            found[workspace.parent] = tag
        return found

    def _one(self, folder: Path, tag: str | None, *, remove: bool) -> Plain | None:
        try:
            told = read_plain(folder / "lease.json")
        except OSError:
            told = None  # what a process says of itself may be anything
        lease = told if isinstance(told, dict) else {}
        if self._stack is not None and lease.get("stack") != self._stack:
            return None
        said: Plain = {"cluster": folder.name, "folder": str(folder), "stack": lease.get("stack")}
        said |= {"backend": lease.get("backend"), "did": [], "failed": None}
        if not lease or not _ours(folder, lease, tag):
            because = "its folder does not say whose it is, so nobody touches it"
            return said | {"found": "unknown", "because": because}
        try:
            if self._exists(lease.get("backend"), str(lease.get("stack"))):
                return said | {"found": "stack exists", "because": f"{lease['backend']} knows {lease['stack']}"}
        except Unanswered as reason:
            return said | {"found": "unknown", "because": f"{reason}; that is not gone"}
        because = f"{lease['backend']} answers that there is no stack {lease['stack']}"
        said |= {"found": "orphan", "because": because}
        try:
            here = Workspace.at(folder)
            self._suspend(here, because, said)
            if remove and said["failed"] is None:
                if self._exists_now(lease.get("backend"), str(lease.get("stack"))):
                    raise Refusal(f"{lease['backend']} knows {lease['stack']} again, so it is not taken away.")
                self._remove(here, lease, said)
        except (Refusal, Unanswered) as refusal:
            said["failed"] = str(refusal)
        return said

    def _suspend(self, here: Workspace, because: str, said: Plain) -> None:
        if here.sealed():
            return  # nothing of it runs, and a receipt or nobody's opening says so
        code, told, words = standing.ask(
            here.folder, "suspend", "--reason=orphan", f"--because={because}", command=self._leasing
        )
        if code != 0:
            said["failed"] = str(told.get("reason") or words)
        else:
            said["did"].append("suspended")

    def _remove(self, here: Workspace, lease: Plain, said: Plain) -> None:
        """What `pulumi destroy` would do: gate first, which gives the receipt, then the cluster, which asks for it."""
        record = here.record()
        if record is None:
            raise Refusal("Its instance is not known, so no receipt can name it: it is kept.")
        site = here.site
        state = {
            "site": {"stack": site.stack, "stack_id": site.stack_id, "state": str(site.state)},
            "cluster": here.cluster,
            "instance": record.instance,
            "store": (read_plain(here.settings) or {}).get("store"),
        }
        state["site"]["runtime"] = str(site.runtime)
        self._gates.delete(state)
        self._clusters.delete(state)
        said["did"].append("removed")


def running_clusters() -> Iterator[tuple[str, Path]]:
    """The tag and the workspace of each process of this user's, on the whole machine, that has both."""
    for process in psutil.process_iter():
        try:
            if process.uids().real != os.getuid():
                continue
            entries = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
        except (OSError, psutil.Error):
            continue
        split = (entry.decode(errors="replace").partition("=") for entry in entries)
        pairs = {name: value for name, _, value in split}
        if CLUSTER_TAG in pairs and os.path.isabs(pairs.get(WORKSPACE_TAG, "")):
            yield f"{CLUSTER_TAG}={pairs[CLUSTER_TAG]}", Path(pairs[WORKSPACE_TAG])


def _ours(folder: Path, lease: Plain, tag: str | None) -> bool:
    """Whether folder, lease and tag agree, and are this user's."""
    named = f"{CLUSTER_TAG}={lease.get('stack_id')}/{lease.get('cluster')}"
    mine = not folder.is_symlink() and folder.stat().st_uid == os.getuid()
    return mine and lease.get("cluster") == folder.name and lease.get("tag") == named and tag in (None, named)
