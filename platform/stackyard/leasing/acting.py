"""How a cluster is suspended and resumed: step by step, each of which may be the last one before a kill.

Suspend: note the intent; have everything saved, verified and the writers stand still; note the suspension; end the
processes; let go who stood still and is not the cluster's; forget the intent. Resume the other way round. Whoever finds
an intent does the same again. If a step fails, everybody goes on, and the next look tries again.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from stackyard.evacuation.freezing import Freezer
from stackyard.evacuation.settings import SaverSettings
from stackyard.leasing import audits, failpoints
from stackyard.leasing.facts import Instance, Lease, Reason, Suspension, plain
from stackyard.leasing.folder import Folder

EVACUATION = (sys.executable, "-P", "-m", "stackyard.evacuation")
PATIENCE = 300.0
"""Seconds in which the processes of a cluster are ended, or started."""
LONGEST = 3600.0
"""Seconds that saving may take once the lease's grace is over: a store that hangs must not cost for ever, either."""
FORGOTTEN = 60.0
"""Seconds after which somebody who was stopped is let go, unless whoever stopped him is still at it."""


@dataclass
class Acted:
    """What was done."""

    did: list[str] = field(default_factory=list[str])
    failed: str | None = None
    """Why not all of it was done, in a sentence."""
    store_away: bool = False


class Children:
    """The processes that one reaper has started, so that it can end them when it is asked to end."""

    def __init__(self) -> None:
        self._there: set[subprocess.Popen[bytes]] = set()
        self._ended, self._lock = False, threading.Lock()

    def run(self, command: Sequence[str], settings: SaverSettings, timeout: float | None = None) -> tuple[int, bytes]:
        """Its exit code and what it printed. Raises OSError, TimeoutExpired."""
        tag = (settings.processes_tag or "").partition("=")[0]
        surroundings = {name: value for name, value in os.environ.items() if name != tag}
        with self._lock:
            if self._ended:
                return 128 + signal.SIGTERM, b""
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=surroundings)
            self._there.add(child)
        try:
            said, _ = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            raise
        finally:
            with self._lock:
                self._there.discard(child)
        return child.returncode, said

    def end(self) -> None:
        """Ask those that run to end, and start no more."""
        with self._lock:
            self._ended = True
            for child in self._there:
                child.terminate()


@dataclass
class Actor:
    """Acts on one cluster; its folder is locked."""

    folder: Folder
    lease: Lease
    settings: SaverSettings
    instance: Instance
    children: Children = field(default_factory=Children)
    within: float | None = None
    """Seconds in which all has to be saved before it is suspended; None: as long as it takes."""

    def suspend(
        self, reason: Reason, because: str, now: dt.datetime, before: Suspension | None, *, unsaved: bool = False
    ) -> Acted:
        """Suspend it; `unsaved`: even if not everything could be saved. `before`: the suspension there is already."""
        at = now if before is None else before.at
        reason, because = (reason, because) if before is None else (before.reason, before.because)
        self._intend("suspend", at, because)
        failpoints.hit("suspend-intended")
        said = self._evacuation("suspend")
        failpoints.hit("suspend-saved")
        if self.folder.sealed(self.instance):  # its gate was faster: a receipt lets it go, and nothing of it runs
            self.folder.remove("reaping.json")
            return Acted()
        whole, acted = bool(said.get("ok")), Acted(store_away="store_away" in (said.get("code"), said.get("cause")))
        if not whole and not unsaved and before is None:
            self._evacuation("thaw")
            self.folder.remove("reaping.json")
            acted.failed = f"it is not suspended, since not everything is safe: {_reason(said)}"
            return acted
        noted = Suspension(
            instance=self.instance.instance,
            generation=self.instance.generation,
            reason=reason,
            because=because,
            at=at,
            whole=whole,
            saved=(said.get("version") or {}).get("number") if whole else None if before is None else before.saved,
        )
        try:
            self._note(noted)
        except OSError:
            self._evacuation("thaw")
            raise
        failpoints.hit("suspend-noted")
        return self._end(noted, acted, said)

    def _end(self, noted: Suspension, acted: Acted, said: dict[str, Any]) -> Acted:
        failed = self._run(self.lease.suspend)
        failpoints.hit("suspend-ended")
        self._evacuation("thaw")  # who stood still and is not the cluster's
        failpoints.hit("suspend-thawed")
        if failed is not None:
            self._note(noted.model_copy(update={"whole": False}))  # what still runs may write
            acted.failed = f"its processes could not be ended: {failed}"
            return acted
        facts = {"reason": noted.reason, "whole": noted.whole, "saved": noted.saved, **self._who()}
        self._audit("suspended", "reaper", noted.at, noted.because, facts, f"suspended:{noted.whole}")
        self.folder.remove("reaping.json")
        acted.did.append("suspended")
        if not noted.whole:
            acted.failed = f"it is suspended, and not everything of it is saved: {_reason(said)}"
        return acted

    def save(self, before: Suspension) -> Acted:
        """Save what came after it was suspended: who is not the cluster's, a shell in the workspace, was let go."""
        if not self._evacuation("status").get("unsaved_now"):
            self._note(before)
            return Acted()
        said = self._evacuation("save")
        if not said.get("ok"):
            self._note(before.model_copy(update={"whole": False}))
            return Acted(failed=f"it is suspended, and what came since is not saved: {_reason(said)}")
        self._note(before.model_copy(update={"saved": (said.get("version") or {}).get("number")}))
        return Acted(["saved"])

    def resume(self, because: str, now: dt.datetime, by: str) -> Acted:
        """Start it again; that counts as use."""
        self._intend("resume", now, because, by)
        failpoints.hit("resume-intended")
        self.used(now, by)
        self.folder.remove("suspended.json")
        failpoints.hit("resume-cleared")
        self._evacuation("thaw")
        failed = self._run(self.lease.resume)
        failpoints.hit("resume-started")
        if failed is not None:
            return Acted(failed=f"it could not be started again: {failed}")
        self._audit("resumed", by, now, because, self._who(), "resumed")
        self.folder.remove("reaping.json")
        return Acted(["resumed"])

    def used(self, now: dt.datetime, by: str) -> None:
        """Note that somebody wants it to run: that is use."""
        resumed = {"instance": self.instance.instance, "at": now.isoformat(), "by": by}
        self.folder.write("idle.json", {"version": 1, **self.folder.idle(), "resumed": resumed})

    def forgotten(self) -> bool:
        """Whether somebody stands still whom nobody saves any more: an evacuation was killed, and nobody came since."""
        try:
            age = time.time() - (self.settings.state / "frozen.json").stat().st_mtime
            if 0 <= age < FORGOTTEN or not Freezer(self.settings).frozen():
                return False
            with (self.settings.state / "freeze.lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # nobody stands still, or whoever saves them holds the lock
            return False
        return True

    def undo(self) -> Acted:
        """Let go whom a suspension that is no longer wanted left standing."""
        self._evacuation("thaw")
        self.folder.remove("reaping.json")
        return Acted(["thawed"])

    def _intend(self, doing: str, at: dt.datetime, because: str, by: str = "reaper") -> None:
        told = {"version": 1, "doing": doing, "at": at.isoformat(), "because": because, "by": by, **self._who()}
        self.folder.write("reaping.json", told)

    def _note(self, noted: Suspension) -> None:
        tried = dt.datetime.now(dt.UTC).isoformat()
        self.folder.write("suspended.json", {**plain(noted), "tried": tried})

    def _audit(self, what: str, who: str, at: dt.datetime, why: str, facts: dict[str, Any], event: str) -> None:
        audits.keep(self.folder, self.instance, what=what, who=who, at=at, why=why, facts=facts, event=event)

    def _who(self) -> dict[str, Any]:
        return {"instance": self.instance.instance, "generation": self.instance.generation}

    def _evacuation(self, verb: str) -> dict[str, Any]:
        """What the evacuation answers; a process that fails to answer says no."""
        command = [*EVACUATION, verb, str(self.folder.path / "evacuation.json"), "--json"]
        try:
            code, said = self.children.run(command, self.settings, self.within if verb == "suspend" else None)
            told = json.loads(said.splitlines()[-1])
            return told if code == 0 else {**told, "ok": False}
        except (OSError, ValueError, LookupError, TypeError, subprocess.TimeoutExpired) as error:
            return {"ok": False, "code": "failed", "reason": f"`evacuation {verb}` gave no answer ({error})"}

    def _run(self, command: Sequence[str]) -> str | None:
        """Why it failed, or None."""
        try:
            code, said = self.children.run(command, self.settings, PATIENCE)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if said:
            print(said.decode(errors="replace"), file=sys.stderr, end="", flush=True)
        return None if code == 0 else f"{command[0]} ... {' '.join(command[-2:])} ended with {code}"


def _reason(said: dict[str, Any]) -> str:
    losses = said.get("losses") or []
    named = "".join(f"; {each.get('path')}: {each.get('reason')}" for each in losses[:3])
    more = len(losses) - 3 + int(said.get("more") or 0)
    return f"{said.get('reason') or 'no reason given'}{named}{f' and {more} more' if more > 0 else ''}"
