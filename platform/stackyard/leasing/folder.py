"""The folder of one leased cluster, read and written: several hands write there, and any of them may have been killed.

    lease.json instance.json evacuation.json processes.json usage.jsonl       infra's
    suspended.json extensions.json seen.json idle.json told.json              told of in ARCHITECTURE.md
    clock.json     what the clocks said at the last look
    reaping.json   what is being done to it; there while it is being done, so that the next look finishes it
    reaper.lock    held by whoever does it

What cannot be read is never guessed: without its lease nothing is ended, with a broken list of extensions neither.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel, TypeAdapter, ValidationError

from stackyard.evacuation.cache import release
from stackyard.evacuation.errors import SettingsError
from stackyard.evacuation.freezing import write_whole
from stackyard.evacuation.settings import SaverSettings, read
from stackyard.leasing.facts import Extension, Instance, Lease, Seen, Signal, Suspension, Told, Used
from stackyard.spec import plain
from stackyard.spec.leases import LeaseBudgetSpec, LeaseSpec

M = TypeVar("M", bound=BaseModel)
_EXTENSIONS = TypeAdapter(tuple[Extension, ...])


class Busy(Exception):
    """Somebody else is at this cluster."""


class Folder:
    """One cluster's. `troubles` gathers what could not be read, a sentence each, since the folder was made."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))
        self.cluster = self.path.name
        self.troubles: list[str] = []

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One reaper at a time. Raises Busy; OSError where there is no such folder."""
        descriptor = os.open(self.path / "reaper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise Busy from None
        finally:
            os.close(descriptor)

    def settings(self) -> SaverSettings | None:
        """What the evacuation is told."""
        try:
            return read(self.path / "evacuation.json")
        except SettingsError as error:
            self.troubles.append(str(error))
            return None

    def lease(self) -> Lease | None:
        """How long it is lent."""
        told = self._object("lease.json", needed=True)
        if told is None:
            return None
        try:
            terms = plain.load(LeaseSpec, told["lease"])
            if terms.hours is not None:
                ZoneInfo(terms.hours.timezone)
            optional = {
                name: told.get(name) for name in ("dashboard", "notebook", "ray_token", "notebook_token", "clock")
            }
            return Lease(
                terms=terms,
                budget=plain.load(LeaseBudgetSpec, told.get("budget") or {}),
                owner=str(told.get("owner") or ""),
                tell=tuple(told.get("tell") or ()),
                every=float(told["every"]),
                stack=str(told["stack"]),
                stack_id=str(told["stack_id"]),
                suspend=_argv(told["suspend"]),
                resume=_argv(told["resume"]),
                **optional,
            )
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            self.troubles.append(f"lease.json makes no sense: {_one_line(error)}")
            return None

    def foreign(self, settings: SaverSettings | None, stack_id: str | None = None) -> str | None:
        """Why this is not a cluster of ours, or None: folder, lease, evacuation and owner have to agree."""
        told = self._object("lease.json") or {}
        tag, ours = str(told.get("tag")), f"{told.get('stack_id')}/{told.get('cluster')}"
        if self.path.is_symlink() or self.path.stat().st_uid != os.geteuid():
            return "its folder is another user's, or a link"
        if told.get("cluster") != self.cluster or tag.partition("=")[2] != ours:
            return f"the folder is of {self.cluster}, its lease of {told.get('cluster')} with the tag {tag}"
        if stack_id is not None and told.get("stack_id") != stack_id:
            return f"it is of the stack {told.get('stack_id')}"
        if settings is None:
            return None
        said = (settings.stack_id, settings.cluster, settings.processes_tag)
        if said != (told.get("stack_id"), self.cluster, tag):
            return f"its evacuation is set for {settings.stack_id}/{settings.cluster}, tag {settings.processes_tag}"
        if os.path.realpath(settings.workspace) != os.path.realpath(self.path / "workspace"):
            return f"its workspace is said to be {settings.workspace}"
        return None

    def instance(self) -> Instance | None:
        """Which instance lives here."""
        return self._model(Instance, "instance.json", needed=True)

    def sealed(self, instance: Instance | None) -> bool:
        """Whether this instance and generation was evacuated."""
        noted = self._object("saver/sealed.json") or {}
        found = (noted.get("instance"), noted.get("generation"))
        return instance is not None and (instance.sealed or found == (instance.instance, instance.generation))

    def suspended(self, instance: Instance | None) -> Suspension | None:
        """Its suspension; one that cannot be read is one by a person, so that only a person undoes it."""
        if instance is None or not (self.path / "suspended.json").exists():
            return None
        found = self._model(Suspension, "suspended.json")
        if found is None:
            at = dt.datetime.fromtimestamp((self.path / "suspended.json").stat().st_mtime, dt.UTC)
            because = "suspended.json cannot be read"
            return Suspension(
                instance=instance.instance,
                generation=instance.generation,
                reason="asked",
                because=because,
                at=at,
                whole=False,
            )
        same = found.instance == instance.instance and found.generation >= instance.generation
        return found if same else None  # of an earlier opening

    def extensions(self, instance: Instance | None) -> tuple[Extension, ...] | None:
        """How often it was extended; None when that cannot be read."""
        told = self._object("extensions.json")
        if told is None:
            return None if (self.path / "extensions.json").exists() else ()
        if instance is not None and told.get("instance") != instance.instance:
            return ()
        try:
            return _EXTENSIONS.validate_python(told["extensions"])
        except (ValueError, KeyError) as error:
            self.troubles.append(f"extensions.json makes no sense: {_one_line(error)}")
            return None

    def usage(self) -> tuple[Used, ...]:
        """When processes were started and ended; a line that a kill cut short is passed over."""
        try:
            lines = (self.path / "usage.jsonl").read_bytes().split(b"\n")
        except OSError:
            return ()
        found = []
        for line in lines:
            with contextlib.suppress(ValueError):
                found.append(Used.model_validate_json(line))
        return tuple(found)

    def seen(self) -> Seen | None:
        """When it was last seen running."""
        return self._model(Seen, "seen.json")

    def idle(self) -> dict[str, Any]:
        """The signals of the last look, as `signals` keeps them."""
        return self._object("idle.json") or {}

    def signals(self) -> tuple[Signal, ...]:
        """The same, for a decision; what cannot be read is not there."""
        found = []
        for each in self.idle().get("signals") or ():
            with contextlib.suppress(ValueError):
                found.append(Signal.model_validate(each))
        return tuple(found)

    def told(self, instance: Instance | None) -> dict[str, list[dict[str, Any]]]:
        """The `warnings` of this instance, and entries of whichever that wait for the `audit` log."""
        kept = self._object("told.json") or {}
        mine = instance is not None and kept.get("instance") == instance.instance
        found = {"warnings": kept.get("warnings") if mine else None, "audit": kept.get("audit")}
        return {
            name: [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []
            for name, entries in found.items()
        }

    def warnings(self, instance: Instance | None) -> tuple[Told, ...]:
        """The warnings of it."""
        found = []
        for each in self.told(instance)["warnings"]:
            with contextlib.suppress(ValueError):
                found.append(Told.model_validate(each))
        return tuple(found)

    def commands(self) -> list[list[str]]:
        """Command lines of the cluster's own processes."""
        try:
            found = json.loads((self.path / "processes.json").read_bytes())
            return [[str(part) for part in each["command"]] for each in found]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def intent(self) -> dict[str, Any] | None:
        """What is being done to it, or was when its reaper was killed."""
        return self._object("reaping.json")

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Replace a file of it, whole or not at all; on a full disk, at the cost of the saver's reserve. Raises
        OSError."""
        data = json.dumps(content).encode()
        try:
            write_whole(self.path / name, data)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            release(self.path / "saver")
            write_whole(self.path / name, data)

    def note(self, name: str, content: dict[str, Any]) -> None:
        """The same for what only helps the next look: a full disk is told of, and holds up nothing."""
        try:
            self.write(name, content)
        except OSError as error:
            self.troubles.append(f"{name} cannot be written: {error.strerror}")

    def remove(self, name: str) -> None:
        """Take a file away, if it is there."""
        (self.path / name).unlink(missing_ok=True)

    def _model(self, model: type[M], name: str, *, needed: bool = False) -> M | None:
        found = self._object(name, needed=needed)
        try:
            return None if found is None else model.model_validate(found)
        except ValidationError as error:
            self.troubles.append(f"{name} makes no sense: {_one_line(error)}")
            return None

    def _object(self, name: str, *, needed: bool = False) -> dict[str, Any] | None:
        try:
            found = json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            if needed:
                self.troubles.append(f"{name} is missing")
            return None
        except (OSError, ValueError) as error:
            self.troubles.append(f"{name} cannot be read: {_one_line(error)}")
            return None
        if not isinstance(found, dict):
            self.troubles.append(f"{name} is not an object")
            return None
        return found


def _argv(found: Any) -> tuple[str, ...]:
    if not isinstance(found, list) or not found or not all(isinstance(part, str) for part in found):
        raise ValueError("suspend and resume are commands, as lists of texts")
    return tuple(found)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
