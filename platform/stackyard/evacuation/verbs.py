"""What each verb of the command line does; each returns plain data with `ok`."""

from __future__ import annotations

import argparse
import datetime as dt
import getpass
import json
import os
import signal
import sys
import threading
import time
from contextlib import closing
from types import FrameType
from typing import Any

from stackyard.evacuation import (
    arriving,
    asking,
    auditing,
    evacuating,
    looking,
    receipts,
    restoring,
    telling,
    verifying,
    versions,
)
from stackyard.evacuation.blobs import Coder
from stackyard.evacuation.cache import locked
from stackyard.evacuation.errors import EvacuationError, SettingsError, StoreAwayError, StoreFullError
from stackyard.evacuation.freezing import Freezer
from stackyard.evacuation.saving import Saver, cache_of, opened, signing_key
from stackyard.evacuation.settings import SaverSettings, read
from stackyard.evacuation.telling import Progress
from stackyard.evacuation.versions import Found
from stackyard.store.objects import Store

_NICE = 10
"""The watching saver yields to the work that it saves."""


def save(settings: SaverSettings, _options: argparse.Namespace) -> dict[str, Any]:
    """One version, if anything is new."""
    with locked(settings.state):
        try:
            saved = telling.saved(Saver(settings).save())
            auditing.note(settings, *auditing.waiting(settings))
            return saved
        except (StoreAwayError, StoreFullError) as error:
            return {**telling.refusal(error), **_pending(settings)}


def watch(settings: SaverSettings, options: argparse.Namespace) -> dict[str, Any]:
    """Save every so often until SIGTERM or SIGINT, which end it after the save that runs."""
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    os.nice(_NICE)
    every, saves, failed = options.every or settings.every, 0, 0
    while not ended.is_set():
        began = time.monotonic()
        try:
            outcome = save(settings, options)
        except (EvacuationError, OSError) as error:
            outcome = telling.refusal(error)
        saves, failed = saves + 1, failed + (not outcome["ok"])
        line = {"verb": "save", **outcome}
        print(json.dumps(line) if options.json else telling.sentences("save", outcome), flush=True)
        if options.times is not None and saves >= options.times:
            break
        ended.wait(max(0.0, every - (time.monotonic() - began)))  # a clock that is set back delays no save
    return {"ok": True, "saves": saves, "failed": failed}


def status(settings: SaverSettings, _options: argparse.Namespace) -> dict[str, Any]:
    """The newest version, how old what is safe is, and what is not saved now."""
    now, found = dt.datetime.now(dt.UTC), None
    told: dict[str, Any] = {"ok": True, "cluster": settings.cluster, "store": "there", "every": settings.every}
    try:
        found = versions.newest(opened(settings), settings.cluster, settings.trusted_keys)
    except (StoreAwayError, StoreFullError) as error:
        told.update(ok=False, store="away", reason=str(error))
    told["version"] = None if found is None else telling.version(found)
    checked = None if found is None else dt.datetime.fromisoformat(found.version.started)
    told.update(_pending(settings))
    if found is not None and (noted := told.pop("checked", None)) is not None and noted[0] == found.version.number:
        checked = dt.datetime.fromisoformat(noted[1])
    told.pop("checked", None)
    told["safe_until"] = None if checked is None else versions.text(checked)
    told["age"] = None if checked is None else round((now - checked).total_seconds(), 3)
    told["late"] = told["age"] is None or told["age"] > 2 * settings.every
    told["same_disk"] = settings.same_disk()
    told["frozen"] = [process.pid for process in Freezer(settings).frozen()]
    told["sealed"] = evacuating.sealed(settings)
    told["ok"] = told["ok"] and found is not None
    return told


def verify(settings: SaverSettings, options: argparse.Namespace) -> dict[str, Any]:
    """Read a version back."""
    store, coder = opened(settings), Coder.of(settings.encrypt_key)
    with locked(settings.state):
        proof = verifying.verify(settings, store, coder, _found(settings, store, options.version))
        if not proof.whole:
            with closing(cache_of(settings, coder)) as cache:
                evacuating.distrust(cache, proof)
    return telling.verified(proof)


def freeze(settings: SaverSettings, _options: argparse.Namespace) -> dict[str, Any]:
    """Stop the writers; who does not stop undoes it."""
    freezer = Freezer(settings)
    signal.signal(signal.SIGTERM, _leave)
    with locked(settings.state), locked(settings.state, "freeze.lock"):  # so no saver stands still with a lock
        try:
            found = freezer.freeze()
        except BaseException:
            freezer.thaw()
            raise
    return {"ok": True, "frozen": [process.pid for process in found]}


def thaw(settings: SaverSettings, _options: argparse.Namespace) -> dict[str, Any]:
    """Let the writers go on."""
    with locked(settings.state, "freeze.lock"):
        return {"ok": True, "thawed": [process.pid for process in evacuating.thaw(settings)]}


def evacuate(settings: SaverSettings, _options: argparse.Namespace) -> dict[str, Any]:
    """Prove that everything is safe, and leave the workspace sealed."""
    signal.signal(signal.SIGTERM, _leave)
    with locked(settings.state), locked(settings.state, "freeze.lock"):
        given = evacuating.evacuate(settings)
        audited = auditing.note(settings, given, *auditing.waiting(settings))
    told = {"ok": True, "receipt": given.place, **given.body.model_dump(mode="json")}
    return {**told, "asked": asking.last(settings), "audit": audited}


def suspend(settings: SaverSettings, _options: argparse.Namespace) -> dict[str, Any]:
    """Have everything safe and the writers stand still, for whoever ends them next; it may be opened again."""
    signal.signal(signal.SIGTERM, _leave)
    with locked(settings.state), locked(settings.state, "freeze.lock"):
        safe = evacuating.suspend(settings)
    frozen = [process.pid for process in safe.frozen]
    told = {"ok": True, "version": telling.version(safe.saved.newest), "frozen": frozen, "pieces": safe.pieces}
    return {**told, "asked": asking.last(settings)}


def receipt(settings: SaverSettings, _options: argparse.Namespace) -> dict[str, Any]:
    """Whether this instance and generation may go."""
    found = evacuating.allowed(settings)
    told: dict[str, Any] = {"ok": found.allowed, "receipt": None, "discard": None}
    told["audit"] = auditing.note(settings, found.receipt, found.discard)
    for name, signed in (("receipt", found.receipt), ("discard", found.discard)):
        if signed is not None:
            told[name] = {"place": signed.place, **signed.body.model_dump(mode="json")}
    if not found.allowed:
        told.update(reason="; ".join(found.reasons), losses=telling.losses(found.losses), more=found.more)
    return told


def discard(settings: SaverSettings, options: argparse.Namespace) -> dict[str, Any]:
    """Choose to lose what is not saved."""
    store, newest = None, None
    try:
        store = opened(settings)
        found = versions.newest(store, settings.cluster, settings.trusted_keys)
        newest = None if found is None else found.version.number
    except (StoreAwayError, StoreFullError):
        store = None
    body = receipts.Discard(
        stack=settings.stack,
        stack_id=settings.stack_id,
        cluster=settings.cluster,
        instance=settings.instance,
        generation=settings.generation,
        created=versions.text(versions.now()),
        because=options.because,
        by=options.by or getpass.getuser(),
        newest=newest,
    )
    given = receipts.discard(settings, store, signing_key(settings), body)
    audited = auditing.note(settings, given)
    return {"ok": True, "discard": given.place, "audit": audited, **body.model_dump(mode="json")}


def restore(settings: SaverSettings, options: argparse.Namespace) -> dict[str, Any]:
    """Bring a version to an empty folder, or into a workspace in which nobody worked yet."""
    if (options.target is None) == (options.into is None) or (options.into and options.extras):
        raise SettingsError("restore goes to a TARGET, with its --extras, or --into a workspace")
    store, coder = opened(settings), Coder.of(settings.encrypt_key)
    found = _found(settings, store, options.what)
    if options.into is None:
        return telling.restored(
            restoring.restore(settings, store, coder, found, options.target, options.extras, Progress(found))
        )
    into = read(options.into)
    if (noted := evacuating.sealed(into)) is not None:
        raise EvacuationError(f"the workspace is sealed by {noted['receipt']}: `pulumi up` opens it again")
    return telling.restored(arriving.bring(settings, store, coder, found, into, Progress(found)))


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End as an exception does, so that whoever stands still is let go."""
    sys.exit(128 + signal.SIGTERM)


def _found(settings: SaverSettings, store: Store, what: str) -> Found:
    """The version that a person means: `latest`, its number (`7`, `v7`), or a receipt's place."""
    if what == "latest":
        found = versions.newest(store, settings.cluster, settings.trusted_keys)
        if found is None:
            raise EvacuationError(f"{settings.cluster} has no version that can be trusted")
        return found
    if what.removeprefix("v").isdecimal():
        return versions.read(store, settings.cluster, int(what.removeprefix("v")), settings.trusted_keys)
    return receipts.version_of(settings, store, receipts.receipt_at(settings, store, what).body)


def _pending(settings: SaverSettings) -> dict[str, Any]:
    """What is not saved now, as far as this machine can tell."""
    if not settings.workspace.is_dir():
        return {"unsaved_now": None, "workspace": "gone"}
    with closing(cache_of(settings, Coder.of(settings.encrypt_key))) as cache:
        pending = looking.look(settings, cache, strict=False)
        checked = cache.note("checked")
    return {
        "workspace": "there",
        "unsaved_now": pending.count,
        "unsaved_bytes": pending.size,
        "losses": telling.losses(pending.named),
        "more": pending.count - len(pending.named),
        "checked": None if checked is None else json.loads(checked),
    }
