"""Suspensions, resumptions and extensions in the audit log of the store, once the store is there.

Entries wait beside the cluster (`told.json`) until the log took them; each is an event of its own, so that one which
was taken and not crossed off is not taken again. The log is `cluster-<name>`, signed with the receipt key.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from stackyard.evacuation.settings import SaverSettings
from stackyard.leasing.facts import Instance
from stackyard.leasing.folder import Folder

WAITING = 200
"""Entries that may wait; beyond it the oldest are dropped."""


def keep(
    folder: Folder,
    instance: Instance,
    *,
    what: str,
    who: str,
    at: dt.datetime,
    why: str,
    facts: dict[str, Any],
    event: str,
) -> None:
    """Have an entry wait for the store; one of the same `event`, instance, generation and time waits once."""
    told = folder.told(instance)
    whole = f"{event}:{instance.instance}:{instance.generation}:{at.isoformat()}"
    if all(each.get("event") != whole for each in told["audit"]):
        entry = {"at": at.isoformat(), "who": who, "what": what, "why": why, "facts": facts, "event": whole}
        told["audit"] = [*told["audit"], entry][-WAITING:]
        folder.write("told.json", {"version": 1, "instance": instance.instance, **told})


def deliver(folder: Folder, instance: Instance, settings: SaverSettings) -> str | None:
    """Note in the store what waits. Returns why that could not be done, or None."""
    waiting = folder.told(instance)["audit"]
    if not waiting:
        return None
    # The store's client costs a look more than all the rest of it, and a look is taken twice a minute.
    from stackyard.evacuation.errors import EvacuationError, reaching
    from stackyard.evacuation.saving import opened, signing_key
    from stackyard.store.audit import Log
    from stackyard.store.documents import DocumentError

    try:
        with reaching(settings.store):
            log = Log(opened(settings), f"cluster-{settings.cluster}", signing_key(settings), settings.trusted_keys)
            for each in waiting:
                log.append(**each)
    except (EvacuationError, DocumentError, OSError, ValueError, TypeError, KeyError) as error:
        return str(error)
    told = folder.told(instance)
    told["audit"] = []
    folder.write("told.json", {"version": 1, "instance": instance.instance, **told})
    return None
