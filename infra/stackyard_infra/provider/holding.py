"""A folder that one hand at a time works on; the lock is the folder itself, so it leaves no file behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


class Hold:
    """Holds `folder`; may be entered again by whoever holds it. A folder that is not there is held by nobody."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._mine = folder, False

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        if self._mine:
            yield
            return
        descriptor = _locked(self._folder)
        self._mine = True
        try:
            yield
        finally:
            self._mine = False
            if descriptor is not None:
                os.close(descriptor)


def _locked(folder: Path) -> int | None:
    while True:
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.stat(folder).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)  # it was removed while we waited, and perhaps made anew
