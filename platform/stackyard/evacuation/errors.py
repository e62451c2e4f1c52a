"""What can stop the saver, each as one sentence that a person can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import BaseError


class EvacuationError(Exception):
    """Something could not be saved, verified, restored or frozen; the message says what and why."""

    code = "failed"


class SettingsError(EvacuationError):
    """What the saver was told makes no sense."""

    code = "settings"


class StoreFullError(EvacuationError):
    """The store takes no more."""

    code = "store_full"


class StoreAwayError(EvacuationError):
    """The store does not answer, or is not the one that was written before."""

    code = "store_away"


class DamageError(EvacuationError):
    """What lies in the store is not what was put there."""

    code = "damaged"


class FreezeError(EvacuationError):
    """A process of the workspace could not be stopped."""

    code = "not_frozen"


_FULL = ("No space left", "os error 28", "Disk quota", "os error 122", "QuotaExceeded")


@contextmanager
def reaching(store: str) -> Iterator[None]:
    """Turn whatever the store raises into StoreFullError or StoreAwayError; an absent key stays a KeyError."""
    try:
        yield
    except (OSError, BaseError) as error:
        text = " ".join(str(error).split())
        if any(sign in text for sign in _FULL):
            raise StoreFullError(f"the store {store} is full: make room there, then save again") from error
        raise StoreAwayError(f"the store {store} does not answer: {text[:300]}") from error


def shown(path: bytes) -> str:
    """A name for people and JSON: bytes that are no text and line breaks are escaped."""
    text = path.decode("utf-8", "backslashreplace") or "."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
