"""Which model answers: the newest signed Release, and nothing that has not proved itself.

A thread polls the store. A new champion is fetched with every digest checked, tried in a throw-away child, loaded,
made to answer its golden rows and warmed; only then does it replace the old one, which answers until then and goes
on answering if anything fails. Models that a Release calls warm stay loaded, as does the champion before this one: to
go back to them is a pointer swap. The last good Release and its bundle are kept on disk, so that a replica starts and
serves while the store is away. It never goes back below a Release it has served.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stackyard.data import code
from stackyard.serving import model, probe
from stackyard.serving.arm_runner import Prepared
from stackyard.serving.booster import xgboost
from stackyard.serving.metrics import Metrics
from stackyard.store import bundles, layout, releases
from stackyard.store.documents import verify
from stackyard.store.objects import Store
from stackyard.store.releases import Release

POLL_SECONDS = 0.5
WARM_RETRY = 30.0
"""Seconds between tries to load a bundle that is to be kept warm."""
FIRST_RETRY, LAST_RETRY = 5.0, 300.0
"""Seconds between tries of a Release that failed; doubled each time."""


class StoreAwayError(OSError):
    """The store cannot be reached now."""


class _Away(Store):
    def __init__(self, url: str) -> None:
        self.url = url

    def read(self, key: str, *, digest: str | None = None) -> bytes:
        raise StoreAwayError(f"the store is away ({self.url}), {key} is not in the cache")


def open_store(url: str) -> Store | None:
    """The store at `url`, or None while its folder is away: opening a folder must not create an empty one."""
    if "://" not in url and not Path(url).is_dir():
        return None
    return Store.open(url)


@dataclass
class Follower:
    """Follows the Releases of `name`; `install` is called with each Release and its champion, which proved itself."""

    name: str
    url: str
    trusted: tuple[str, ...]
    cache: Path
    metrics: Metrics
    install: Callable[[model.Model, Release], None]
    trial: Callable[[Path, str, Path], None] = probe.run
    number: int = 0
    """The Release that is served; 0 before the first."""
    bundle: str | None = None
    told: Callable[[], dict[str, Any]] = dict
    """What else the server's metadata says."""
    failure: str | None = None
    """Why the newest Release is not served, for people; None when it is."""
    _retry_at: float = 0.0
    _retry: float = FIRST_RETRY
    _failed: int = 0
    _loaded: dict[str, model.Model] = field(default_factory=dict)
    _before: str | None = None
    """The champion before this one: kept although no Release need name it."""
    _warm: tuple[str, ...] = ()
    _warm_at: float = 0.0
    _ending: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Serve the cached Release, then the newest one, before returning; then follow in a thread."""
        self.cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._resume()
        self.poll()
        self._thread = threading.Thread(target=self._run, name="release-follower", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._ending.set()

    def status(self) -> dict[str, Any]:
        """What is followed, for the server's metadata."""
        warm = sorted(digest for digest in self._loaded if digest != self.bundle)
        return {"release": self.number, "load_failure": self.failure, "warm": warm, **self.told()}

    def poll(self, now: float | None = None) -> None:
        """One look at the store. Raises nothing: what fails is counted, told and tried again later."""
        now = time.monotonic() if now is None else now
        try:
            store = open_store(self.url)
            found = None if store is None else releases.newest(store, self.name, self.trusted, after=self.number)
        except Exception as error:  # noqa: BLE001
            self.metrics.store_failures.inc()
            self._tell(f"releases cannot be read: {error}")
            return
        if store is None or found is None or (found.number == self._failed and now < self._retry_at):
            return
        try:
            self._serve(found, store)
        except Exception as error:  # noqa: BLE001
            self._note_failure(found, error, now)
            return
        with suppress(OSError):  # a full disk costs the next start its cache, not this one its model
            self._remember(store, found)

    def _run(self) -> None:
        self.keep_warm()
        while not self._ending.wait(POLL_SECONDS):
            self.poll()
            self.keep_warm()

    def keep_warm(self, now: float | None = None) -> None:
        """Load what the Release calls warm and is not loaded. Raises nothing: a rollback would then load it itself."""
        now = time.monotonic() if now is None else now
        missing = [digest for digest in self._warm if digest not in self._loaded]
        if not missing or now < self._warm_at:
            return
        self._warm_at = now + WARM_RETRY
        for digest in missing:
            try:
                self._loaded[digest] = self.prepare(digest, open_store(self.url) or _Away(self.url))
            except Exception as error:  # noqa: BLE001
                print(f"serving: bundle {digest[:12]} is not kept warm: {error}", flush=True)

    def _serve(self, release: Release, store: Store) -> None:
        began = time.perf_counter()
        loaded = self._loaded.get(release.champion) or self.prepare(release.champion, store)
        self.install(loaded, release)
        if release.champion != self.bundle:
            self.metrics.swap.observe(time.perf_counter() - began)
            self.metrics.swaps.inc()
            self.metrics.model.info({"model": self.name, "bundle": release.champion})
            self._before, self.bundle = self.bundle, release.champion
        kept = {release.champion, self._before, *release.warm}
        self._loaded = {d: one for d, one in {**self._loaded, release.champion: loaded}.items() if d in kept}
        self._warm, self._warm_at = release.warm, 0.0
        self.number, self.failure, self._retry, self._failed = release.number, None, FIRST_RETRY, 0
        self.metrics.release.set(release.number)
        print(f"serving: release {release.number} of {self.name}: bundle {release.champion[:12]}", flush=True)

    def prepare(self, digest: str, store: Store) -> model.Model:
        """The model of bundle `digest`, proved. Raises what went wrong."""
        folder, code_folder = self._proved(digest, store)
        loaded = model.load(folder, digest, code_folder)
        model.check_golden(loaded)
        model.warm(loaded)
        return loaded

    def prepare_apart(self, digest: str) -> Prepared:
        """The same for a process of its own: nothing of the bundle is loaded here. Raises what went wrong."""
        folder, code_folder = self._proved(digest, open_store(self.url) or _Away(self.url))
        return Prepared(folder, code_folder, model.face(folder, digest))

    def _proved(self, digest: str, store: Store) -> tuple[Path, Path]:
        """Where the bundle and its code lie, every digest checked, once its trial is passed."""
        folder = bundles.fetch(store, digest, self.cache / "bundles")
        facts = bundles.verify_folder(folder, digest)
        if facts.get("model") != self.name:
            raise bundles.BundleError(
                f"bundle {digest[:12]} is a model of {facts.get('model')!r}, not of {self.name!r}"
            )
        if facts.get("model_digest") != facts["files"].get("model.ubj", {}).get("sha256"):
            raise bundles.BundleError(f"bundle {digest[:12]} does not hold the model that was trained")
        code_folder = code.unpack(store, str(facts["code"]), self.cache / "code")
        self._try(folder, digest, code_folder)
        return folder, code_folder

    def _try(self, folder: Path, digest: str, code_folder: Path) -> None:
        """The trial, once per machine, bundle and library version: a replica that restarts need not wait for it.

        Each bundle has a lock of its own: a challenger that hangs in its trial must not keep a rollback waiting.
        """
        mark = self.cache / "tried" / f"{digest}-py{sys.hexversion:x}-xgb{xgboost.__version__}"
        mark.parent.mkdir(exist_ok=True, mode=0o700)
        if mark.exists():
            return
        with _exclusive(mark.with_name(f".{digest[:16]}.lock")):
            if not mark.exists():
                model.screen(folder)
                self.trial(folder, digest, code_folder)
                mark.touch()

    def _resume(self) -> None:
        path = self.cache / f"release-{self.name}.json"
        try:
            data = path.read_bytes()
            release = Release.model_validate(
                verify(data, kind=releases.KIND, newest=releases.VERSION, trusted=self.trusted).body
            )
            if release.model != self.name:
                raise ValueError(f"it is a Release of {release.model}")
            self._serve(release, open_store(self.url) or _Away(self.url))
        except FileNotFoundError:
            return
        except Exception as error:  # noqa: BLE001 - the cache is a convenience: the store is asked next
            self._tell(f"the cached Release is of no use: {error}")

    def _remember(self, store: Store, release: Release) -> None:
        data = store.read(layout.release(self.name, release.number))
        with _exclusive(self.cache / f"release-{self.name}.lock"):
            if self._remembered() < release.number:  # a slower neighbour must not put an older one back
                self._write_down(data)

    def _remembered(self) -> int:
        try:
            return int(json.loads((self.cache / f"release-{self.name}.json").read_bytes())["body"]["number"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _write_down(self, data: bytes) -> None:
        scratch = self.cache / f".release-{os.getpid()}"
        scratch.write_bytes(data)
        os.replace(scratch, self.cache / f"release-{self.name}.json")

    def _note_failure(self, release: Release, error: Exception, now: float) -> None:
        self.metrics.load_failures.inc()
        self._retry = FIRST_RETRY if release.number != self._failed else min(self._retry * 2, LAST_RETRY)
        self._failed, self._retry_at = release.number, now + self._retry
        self._tell(f"release {release.number} (bundle {release.champion[:12]}) is not served: {error}")

    def _tell(self, text: str) -> None:
        if text != self.failure:
            print(f"serving: {text}", flush=True)
        self.failure = text


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
