"""Receipts and discards in the audit log of the store, so that who gave up what, and why, can be read long after.

The log is `cluster-<name>`, signed with the receipt key. It is told of what lets a cluster go and decides nothing: one
that cannot be written to stops no evacuation. A discard that was given while the store was away is noted by the next
command that finds it. Each is an event of its own, so that noting one twice adds nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stackyard.evacuation import receipts
from stackyard.evacuation.errors import EvacuationError, reaching
from stackyard.evacuation.freezing import write_whole
from stackyard.evacuation.receipts import Discard, Receipt, Signed
from stackyard.evacuation.saving import opened, signing_key
from stackyard.evacuation.settings import SaverSettings
from stackyard.store.audit import Log
from stackyard.store.documents import DocumentError


def log_of(cluster: str) -> str:
    """The name of a cluster's log."""
    return f"cluster-{cluster}"


def note(settings: SaverSettings, *given: Signed[Receipt] | Signed[Discard] | None) -> str | None:
    """Note what is not noted yet. Returns why that could not be done, or None."""
    wanted = [each for each in given if each is not None]
    if not wanted:
        return None
    try:
        store = opened(settings)
        with reaching(settings.store):
            log = Log(store, log_of(settings.cluster), signing_key(settings), settings.trusted_keys)
            for each in wanted:
                log.append(**_entry(each))
    except (EvacuationError, DocumentError, OSError, ValueError, TypeError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    for each in wanted:
        if (place := Path(each.place)).is_absolute():
            write_whole(_noted(place), b"")
    return None


def waiting(settings: SaverSettings) -> list[Signed[Discard]]:
    """Discards that rest beside the state and are not noted yet."""
    found: list[Signed[Discard]] = []
    for path in sorted((settings.state / "discards").glob("*.json")):
        if not _noted(path).exists():
            try:
                found.append(receipts.discard_at(settings, path))
            except (EvacuationError, OSError):
                continue
    return found


def _entry(given: Signed[Receipt] | Signed[Discard]) -> dict[str, Any]:
    body, bound = given.body, f"{given.body.instance}:{given.body.generation}:{given.body.created}"
    facts: dict[str, Any] = {"instance": body.instance, "generation": body.generation, "place": given.place}
    if isinstance(body, Discard):
        told = {"who": body.by, "what": "discarded", "why": body.because, "event": f"discard:{bound}"}
        return {**told, "at": body.created, "facts": facts | {"newest": body.newest}}
    why = f"{body.files} files, {body.size} bytes are in the store as they were, read back and compared"
    told = {"who": "evacuation", "what": "evacuated", "why": why, "event": f"receipt:{bound}"}
    return {**told, "at": body.created, "facts": facts | {"version": body.workspace, "left_out": body.left_out}}


def _noted(path: Path) -> Path:
    return path.with_suffix(".noted")
