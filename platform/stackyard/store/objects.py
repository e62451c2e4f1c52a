"""One face for a folder, S3, GCS and Azure, with the three promises the rest is built on.

Create-only writes (so an append-only chain cannot fork), content addresses (so equal things are one), and
digests checked before anybody parses a byte.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import obstore
from obstore.exceptions import AlreadyExistsError, NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url


class DigestMismatchError(Exception):
    """Bytes in the store are not the bytes that were promised."""


def sha256(data: bytes) -> str:
    """Hex sha256 of `data`."""
    return hashlib.sha256(data).hexdigest()


class Store:
    """An object store under one prefix; keys are `/`-separated and relative."""

    def __init__(self, backend: ObjectStore, url: str) -> None:
        self._backend = backend
        self.url = url

    @classmethod
    def open(cls, location: str | Path) -> Store:
        """Open a folder (made when missing) or an object store URL (`s3://bucket/prefix`)."""
        text = str(location)
        if "://" in text and urlparse(text).scheme != "file":
            return cls(from_url(text), text)
        folder = Path(text.removeprefix("file://"))
        return cls(LocalStore(folder, mkdir=True, automatic_cleanup=False), str(folder))

    def read(self, key: str, *, digest: str | None = None) -> bytes:
        """The bytes at `key`. Raises KeyError when absent, DigestMismatchError when they hash to something else."""
        try:
            data = bytes(obstore.get(self._backend, key).bytes())
        except (NotFoundError, FileNotFoundError):
            raise KeyError(key) from None
        if digest is not None and sha256(data) != digest:
            raise DigestMismatchError(f"{key}: expected sha256 {digest}, found {sha256(data)}")
        return data

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """`length` bytes of `key` from `start`, fewer where it ends before. Raises KeyError when absent."""
        try:
            return bytes(obstore.get_range(self._backend, key, start=start, length=length))
        except (NotFoundError, FileNotFoundError):
            raise KeyError(key) from None
        except obstore.exceptions.GenericError:
            return self.read(key)[start : start + length]  # some backends refuse a range past the end

    def create(self, key: str, data: bytes) -> bool:
        """Write `key` only if nothing is there. Returns whether it was written."""
        self._there()
        try:
            obstore.put(self._backend, key, data, mode="create")
        except AlreadyExistsError:
            return False
        self._settle(key)
        return True

    def _there(self) -> None:
        """Raises FileNotFoundError for a folder that was moved away or unmounted since it was opened.

        The backend would make an empty one in its place, and what is written there is in no store.
        """
        if isinstance(self._backend, LocalStore) and not os.path.isdir(self.url):
            raise FileNotFoundError(f"{self.url} is no longer there")

    def _settle(self, key: str) -> None:
        """In a folder: see the object on disk before anyone relies on it, since nothing may ever replace it."""
        if not isinstance(self._backend, LocalStore):
            return
        path = Path(self.url, key)
        for place, flags in ((path, os.O_RDONLY), (path.parent, os.O_RDONLY | os.O_DIRECTORY)):
            descriptor = os.open(place, flags)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def keep(self, key: str, data: bytes) -> None:
        """See that content-addressed `key` holds `data`: a damaged object (power was lost) is replaced by it."""
        if not self.create(key, data) and self.read(key) != data:
            self.write(key, data)

    def write(self, key: str, data: bytes) -> None:
        """Write `key`, replacing what is there: for projections and logs only, never for what is signed."""
        self._there()
        obstore.put(self._backend, key, data)

    def exists(self, key: str) -> bool:
        """Whether an object lies at exactly `key`."""
        try:
            obstore.head(self._backend, key)
        except (NotFoundError, FileNotFoundError):
            return False
        return True

    def keys(self, prefix: str, *, after: str | None = None) -> Iterator[str]:
        """Every key under the folder `prefix`, in lexical order; only those past `after`, itself a key, if given."""
        pages = obstore.list(self._backend, prefix, offset=after)
        yield from sorted(str(meta["path"]) for page in pages for meta in page)

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders directly under the folder `prefix`, in lexical order."""
        found = obstore.list_with_delimiter(self._backend, prefix)["common_prefixes"]
        return sorted(each.rstrip("/").rpartition("/")[2] for each in found)

    def delete(self, key: str) -> None:
        """Remove `key`; absent is fine."""
        try:
            obstore.delete(self._backend, key)
        except (NotFoundError, FileNotFoundError):
            return
