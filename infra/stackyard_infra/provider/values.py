"""Between Pulumi's property values and plain Python: numbers come as floats, secrets and unknowns wrapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.runtime import rpc

UNKNOWN = rpc.UNKNOWN
"""Stands for a value that only the real `up` will know: the engine's own word, which the library passes on as text."""


def plain(value: PropertyValue) -> Any:
    """The Python value inside; integral numbers as int."""
    inner = value.value
    if isinstance(inner, Mapping):
        return {key: plain(item) for key, item in inner.items()}
    if isinstance(inner, Sequence) and not isinstance(inner, str):
        return [plain(item) for item in inner]
    if isinstance(inner, float) and inner.is_integer():
        return int(inner)
    return inner


def wrapped(value: Any) -> PropertyValue:
    """The property value of plain Python."""
    if isinstance(value, Mapping):
        return PropertyValue({key: wrapped(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return PropertyValue([wrapped(item) for item in value])
    if isinstance(value, int) and not isinstance(value, bool):
        return PropertyValue(float(value))
    return PropertyValue(value)


def unknown_in(value: Any) -> bool:
    """Whether any part of a plain value is unknown."""
    if isinstance(value, Mapping):
        return any(unknown_in(item) for item in value.values())
    if isinstance(value, list):
        return any(unknown_in(item) for item in value)
    return value == UNKNOWN if isinstance(value, str) else False
