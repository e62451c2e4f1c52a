"""Sentences of the provider that are no errors: where a certificate is, what goes on although something is missing.

They go to whoever listens: the engine, when it started us, else nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Severity = Literal["info", "warning"]
Listener = Callable[[str, Severity], object]

_listeners: list[Listener] = []


def listen(listener: Listener) -> None:
    """From now on tell `listener`, too."""
    _listeners.append(listener)


def announce(sentence: str, severity: Severity = "info") -> None:
    """Tell it; a listener that fails is none of our business."""
    for listener in _listeners:
        listener(sentence, severity)
