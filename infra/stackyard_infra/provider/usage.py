"""When a leased cluster ran and how big it was: what hours and money are counted from, kill and reboot included.

    usage.jsonl  {"at", "what": "opened" | "closed", "generation", "workers", "cpus", "gpus", "hourly_price"}

A line as processes start, a line after the last has ended; `cpus` and `gpus` are of each worker. An opening whose end
nobody wrote ended when the cluster was last seen, which whoever looks after leases notes in `seen.json`.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from stackyard_infra.provider.private import read_plain

FIGURES = ("generation", "workers", "cpus", "gpus", "hourly_price")


def figures_of(lease: Mapping[str, Any], generation: int) -> dict[str, Any]:
    """What is counted of a cluster, by its lease."""
    size = {name: lease.get(name, 0) for name in ("workers", "cpus", "gpus")}
    return {"generation": generation, **size, "hourly_price": (lease.get("budget") or {}).get("hourly_price", 0.0)}


@dataclass(frozen=True)
class Usage:
    """The usage of the cluster that lies in `folder`. Times have a zone."""

    folder: Path

    def opened(self, figures: Mapping[str, Any], at: dt.datetime, *, runs: bool) -> None:
        """Processes are about to start; `runs`: some run already. What is open as it is, is not opened twice."""
        wanted = {name: figures[name] for name in FIGURES}
        with self._lines() as lines:
            last = lines.last()
            if last is not None and last["what"] == "opened":
                if runs and all(last.get(name) == wanted[name] for name in FIGURES):
                    return
                lines.add(last | {"what": "closed", "at": _text(at) if runs else self._last_seen(last)})
            lines.add({"what": "opened", "at": _text(at), **wanted})

    def closed(self, at: dt.datetime, *, ran: bool) -> None:
        """Nothing runs any more; `ran`: something did until now. Nothing is written where nothing was open."""
        if not (self.folder / "usage.jsonl").exists():
            return
        with self._lines() as lines:
            last = lines.last()
            if last is not None and last["what"] == "opened":
                lines.add(last | {"what": "closed", "at": _text(at) if ran else self._last_seen(last)})

    def open(self) -> bool:
        """Whether an opening has no end yet."""
        if not (self.folder / "usage.jsonl").exists():
            return False
        with self._lines() as lines:
            last = lines.last()
        return last is not None and last["what"] == "opened"

    def _lines(self) -> _Lines:
        return _Lines(self.folder / "usage.jsonl")

    def _last_seen(self, opened: Mapping[str, Any]) -> str:
        seen = read_plain(self.folder / "seen.json")
        if not isinstance(seen, dict) or seen.get("generation") != opened["generation"]:
            return opened["at"]
        try:
            return max(opened["at"], str(seen["at"]), key=dt.datetime.fromisoformat)
        except (KeyError, ValueError, TypeError):
            return opened["at"]


class _Lines:
    """The file while it is held: two who write at once are one after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def last(self) -> dict[str, Any] | None:
        """The last whole line; one that a kill cut off is none."""
        for line in reversed(self._path.read_bytes().splitlines()):
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict) and found.get("what") in ("opened", "closed") and "at" in found:
                return found
        return None

    def add(self, line: Mapping[str, Any]) -> None:
        whole = self._path.read_bytes()
        before = b"" if not whole or whole.endswith(b"\n") else b"\n"
        os.write(self._descriptor, before + json.dumps(line, sort_keys=True).encode() + b"\n")


def _text(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).isoformat(timespec="seconds")
