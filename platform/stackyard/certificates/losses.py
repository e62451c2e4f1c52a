"""Is the work safe? The store is read again: receipt, version, and every pack by the digest that is its name.

A receipt that is there is not enough: somebody may have damaged what it speaks of since. A consent to lose (a
discard) makes it no loss, and nothing clean either. What cannot be asked is not known, and never counts as safe.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from stackyard.evacuation import receipts
from stackyard.evacuation.blobs import Coder, Ref
from stackyard.evacuation.errors import DamageError, EvacuationError, SettingsError, StoreAwayError, reaching
from stackyard.evacuation.listing import Listing, entries_of, refs_of
from stackyard.evacuation.packs import Fetcher
from stackyard.evacuation.receipts import Receipt, Signed
from stackyard.evacuation.settings import SaverSettings
from stackyard.evacuation.verifying import fitting
from stackyard.store import layout
from stackyard.store.objects import DigestMismatchError, Store

READERS = 4
"""Packs (16 MiB each) that are read at a time."""
Verdict = Literal["safe", "given-up", "lost", "unproven"]


@dataclass
class Proof:
    """What is known of one instance's work. `why`: a sentence for everything that is not as it should be."""

    verdict: Verdict
    why: list[str] = field(default_factory=list[str])
    receipt: dict[str, Any] | None = None
    """{place, version, manifest, entries, files, size, packs, stored}: `stored` bytes of `packs` packs were read."""
    given_up: dict[str, Any] | None = None
    """{place, by, because, newest, entries, bytes}: entries and bytes that were newer than what is in the store."""


def opened(location: str) -> Store:
    """The store. Raises StoreAwayError; looking must not make an empty one."""
    from pathlib import Path

    if "://" not in location.removeprefix("file://") and not Path(location.removeprefix("file://")).is_dir():
        raise StoreAwayError(f"the store {location} is not there")
    with reaching(location):
        return Store.open(location)


def prove(settings: SaverSettings | None, before: dict[str, Any], *, was_opened: bool = True) -> Proof:
    """What can be had back of the instance and generation in `settings`. `before`: what was found before it went."""
    if settings is None:
        return Proof("lost", ["nobody knows who lived in the workspace and where it was saved"])
    try:
        store = opened(settings.store)
        given = receipts.receipts(settings, store)
    except EvacuationError as error:
        return _given_up(settings, None, before) or Proof("unproven", [str(error)])
    damage: list[str] = []
    for each in given:
        try:
            return _held(settings, store, each)
        except StoreAwayError as error:
            return Proof("unproven", [str(error)])
        except (EvacuationError, KeyError, ValueError) as error:
            damage.append(f"{each.place}: {error}")
    consent = _given_up(settings, store, before)
    if consent is not None:
        return consent
    if not given and not was_opened and before.get("empty"):
        return Proof("safe", ["it was never opened, and nothing was in it"])
    none = f"there is no valid receipt of instance {settings.instance}, generation {settings.generation}"
    return Proof("lost", damage or [none])


def _held(settings: SaverSettings, store: Store, given: Signed[Receipt]) -> Proof:
    """Proof that all of a receipt's version is in the store. Raises EvacuationError, naming what is damaged."""
    found = receipts.version_of(settings, store, given.body)
    coder = Coder.of(settings.encrypt_key)
    fitting(coder, found)
    packs = sorted(_packs(Fetcher(store, settings.cluster, coder), [found.version.root_ref, found.version.report_ref]))
    with ThreadPoolExecutor(READERS, "stackyard-packs") as pool:
        read = list(pool.map(lambda pack: _read(store, settings.cluster, pack), packs))
    damaged = [each for each in read if isinstance(each, str)]
    if damaged:
        more = f" and {len(damaged) - 5} more" if len(damaged) > 5 else ""
        raise DamageError(f"version {given.body.workspace} is damaged: {'; '.join(damaged[:5])}{more}")
    body = given.body
    receipt = {"place": given.place, "version": body.workspace, "manifest": body.manifest, "entries": body.entries}
    receipt |= {"files": body.files, "size": body.size, "packs": len(packs)}
    return Proof("safe", receipt=receipt | {"stored": sum(each for each in read if isinstance(each, int))})


def _packs(fetcher: Fetcher, known: list[Ref]) -> set[str]:
    """Every pack that a version needs: of its listing, its report, its extras and all contents."""
    listing = Listing(fetcher, known[0])
    packs = {ref.pack for ref in (*known, *listing.segments)}
    packs |= {ref.pack for each in listing.extras for ref in refs_of(each)}
    for segment in listing.segments:
        packs |= {ref.pack for entry in entries_of(fetcher.one(segment)) for ref in refs_of(entry)}
    return packs


def _read(store: Store, cluster: str, pack: str) -> int | str:
    """Bytes of a pack that is whole, or what is wrong with it."""
    try:
        with reaching(store.url):
            return len(store.read(layout.workspace_pack(cluster, pack), digest=pack))
    except KeyError:
        return f"pack {pack[:12]} is missing"
    except DigestMismatchError:
        return f"pack {pack[:12]} is not what was put there"


def _given_up(settings: SaverSettings, store: Store | None, before: dict[str, Any]) -> Proof | None:
    """Whether somebody chose to lose it. A store that is away is not asked: the consent may lie beside the state."""
    try:
        found = next(receipts.discards(settings, store), None)
    except (EvacuationError, SettingsError):
        found = next(receipts.discards(settings, None), None)
    if found is None:
        return None
    body = found.body
    told = {"place": found.place, "by": body.by, "because": body.because, "newest": body.newest}
    told |= {"entries": before.get("unsaved"), "bytes": before.get("unsaved_bytes")}
    return Proof("given-up", [f"{body.by} chose to lose it: {body.because}"], given_up=told)
