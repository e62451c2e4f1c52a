"""One save: everything new or changed goes to the store, then a signed version says that it is all there.

The manifest is written last, so a save that is killed leaves pieces that nobody names, and the next one finds most of
them stored already. What could not be saved is in the version's report; nothing is passed over in silence.
"""

from __future__ import annotations

import ctypes
import datetime as dt
import json
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stackyard.evacuation import arriving, copying, extras, failpoints, repositories, versions
from stackyard.evacuation.blobs import Coder, Ref
from stackyard.evacuation.cache import TICK, Cache, release, reserve
from stackyard.evacuation.errors import EvacuationError, SettingsError, StoreAwayError, reaching
from stackyard.evacuation.listing import Writer, text_of
from stackyard.evacuation.packs import Packer
from stackyard.evacuation.passing import Pass, Tally
from stackyard.evacuation.repositories import Repository
from stackyard.evacuation.rules import Rules
from stackyard.evacuation.settings import SaverSettings
from stackyard.evacuation.versions import Found, Version
from stackyard.evacuation.walking import LeftOut, Unsaved, walk
from stackyard.store.keys import KeyFileError, read_private
from stackyard.store.objects import Store


@dataclass(frozen=True)
class Saved:
    """What a save came to."""

    newest: Found
    made: bool
    """Whether there was anything new, so that a version was made."""
    started: dt.datetime
    unsaved: list[Unsaved]
    left_out: list[LeftOut]
    repositories: list[Repository]
    read: int
    """Files that were read."""
    stored: int
    """Bytes that went to the store, without the manifest."""
    seconds: float


class Saver:
    """Saves one workspace. Not for several threads; across processes, take `cache.locked` around it."""

    def __init__(
        self, settings: SaverSettings, store: Store | None = None, *, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._settings = settings
        self._coder = Coder.of(settings.encrypt_key)
        self._store = store or opened(settings)
        self._pause = pause

    def save(self) -> Saved:
        """Make a version if anything is new. Raises EvacuationError (StoreFullError, StoreAwayError, ...)."""
        key, state = signing_key(self._settings), self._settings.state
        arriving.finish(self._settings)
        reserve(state)
        try:
            return self._with(cache_of(self._settings, self._coder), key)
        except sqlite3.Error:  # the disk of the state is full, most likely: the store's need not be
            release(state)
        try:
            return self._with(cache_of(self._settings, self._coder), key)
        except sqlite3.Error:
            return self._with(Cache(None, ""), key)

    def _with(self, memory: Cache, key: Ed25519PrivateKey) -> Saved:
        with closing(memory) as cache:
            before = known(self._settings, self._store, cache)
            packer = Packer(self._store, self._settings.cluster, self._coder, cache)
            try:
                return self._save(cache, packer, before, key)
            except FileNotFoundError as error:
                raise EvacuationError(f"the workspace {self._settings.workspace} cannot be read: {error}") from error
            finally:
                packer.stop()

    def _save(self, cache: Cache, packer: Packer, before: Found | None, key: Ed25519PrivateKey) -> Saved:
        clock, settings, writer = time.perf_counter(), self._settings, Writer(packer)
        started, settled_before = versions.now(), time.time_ns() - TICK
        mapped = copying.shared_writable(settings.workspace)
        if mapped:
            _write_back(settings)
            mapped |= copying.shared_writable(settings.workspace)
        failpoints.hit("save-begun")
        walking = Pass(cache, packer, writer, mapped=mapped, settled_before=settled_before, pause=self._pause)
        for batch in walk(settings.workspace, Rules.of(settings)):
            walking.batch(batch)
        tally = walking.tally
        cache.drop_folders_but(tally.folders)
        known_now, listing = writer.finish(extras.collect(settings, packer, tally))
        cache.add_entries([(*place, data) for place, data in known_now])
        packer.settle()
        root = listing.place
        work = self._work(cache, before, root, tally)
        told = packer.add(_report(tally, work))
        packer.settle()
        failpoints.hit("contents-stored")
        found, made = self._version(before, tally, root, told.place, started, key)
        failpoints.hit("version-stored")
        cache.keep("repositories", json.dumps([asdict(each) for each in work]))
        remember(cache, found, started)
        failpoints.hit("save-noted")
        took = round(time.perf_counter() - clock, 3)
        return Saved(found, made, started, tally.unsaved, tally.left_out, work, tally.read, packer.stored, took)

    def _work(self, cache: Cache, before: Found | None, root: Ref, tally: Tally) -> list[Repository]:
        """What is only in repositories here; git is not asked when no file changed."""
        noted = cache.note("repositories")
        if noted is not None and before is not None and before.version.root_ref.id == root.id:
            return [Repository(**each) for each in json.loads(noted)]
        return repositories.look(self._settings.workspace, tally.repositories)

    def _version(
        self, before: Found | None, tally: Tally, root: Ref, report: Ref, started: dt.datetime, key: Ed25519PrivateKey
    ) -> tuple[Found, bool]:
        settings = self._settings
        if before is not None:
            old = before.version
            same = (old.root_ref.id, old.report_ref.id) == (root.id, report.id)
            if same and (old.instance, old.generation) == (settings.instance, settings.generation):
                return before, False

        def make(number: int, previous: str | None) -> Version:
            return Version(
                cluster=settings.cluster,
                number=number,
                instance=settings.instance,
                generation=settings.generation,
                previous=previous,
                started=versions.text(started),
                finished=versions.text(versions.now()),
                entries=tally.entries,
                files=tally.files,
                size=tally.size,
                unsaved=len(tally.unsaved),
                left_out=len(tally.left_out),
                same_disk=settings.same_disk(),
                root=root.plain(),
                report=report.plain(),
                encryption=self._coder.plain,
            )

        return versions.append(self._store, settings.cluster, key, settings.trusted_keys, make), True


def opened(settings: SaverSettings) -> Store:
    """The store. Raises StoreAwayError, also when its folder is gone although something was saved there."""
    folder = settings.local_store
    if folder is not None and not os.path.isdir(folder) and (settings.state / "cache.db").exists():
        raise StoreAwayError(f"the store {settings.store} is not there, although it was used before: is it mounted?")
    with reaching(settings.store):
        return Store.open(settings.store)


def cache_of(settings: SaverSettings, coder: Coder) -> Cache:
    """The memory that fits these settings."""
    name = (coder.plain or {}).get("key", "plain")
    place = os.path.realpath(settings.workspace)
    return Cache(settings.state, json.dumps([settings.store, settings.cluster, place, name]))


def known(settings: SaverSettings, store: Store, cache: Cache) -> Found | None:
    """The newest version. Raises StoreAwayError when the store lacks one that was saved there from here."""
    found = versions.newest(store, settings.cluster, settings.trusted_keys)
    noted = cache.note("newest")
    if noted is not None:
        number, digest = json.loads(noted)
        there = found is not None and (found.version.number > number or found.digest == digest)
        if not there:
            raise StoreAwayError(
                f"the store {settings.store} lacks version {number} of {settings.cluster}, which was saved there: "
                f"is it the right one? If it was lost, remove {settings.state / 'cache.db'} to save everything anew"
            )
    return found


def remember(cache: Cache, found: Found, started: dt.datetime) -> None:
    """Note the newest version, and that at `started` nothing was newer than it."""
    cache.keep("newest", json.dumps([found.version.number, found.digest]))
    cache.keep("checked", json.dumps([found.version.number, versions.text(started)]))
    cache.commit()


def signing_key(settings: SaverSettings) -> Ed25519PrivateKey:
    """The receipt key. Raises SettingsError when it cannot be used."""
    try:
        return Ed25519PrivateKey.from_private_bytes(read_private(settings.receipt_key))
    except (KeyFileError, OSError, ValueError) as error:
        raise SettingsError(f"the receipt key: {error}") from None


def _write_back(settings: SaverSettings) -> None:
    """Have mapped memory written to its files, so that writing to it again shows in their times from now on.

    It waits for the whole disk, so only where something is mapped: what is mapped later writes for the first time then.
    """
    descriptor = os.open(settings.workspace, os.O_RDONLY | os.O_DIRECTORY)
    try:
        ctypes.CDLL(None).syncfs(descriptor)
    finally:
        os.close(descriptor)


def _report(tally: Tally, work: list[Repository]) -> bytes:
    return json.dumps(
        {
            "unsaved": [[text_of(each.path), each.code, each.reason] for each in tally.unsaved],
            "left_out": [[text_of(each.path), each.rule] for each in tally.left_out],
            "repositories": [asdict(each) for each in work],
        }
    ).encode()
