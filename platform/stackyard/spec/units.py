"""Units belong to the type: `10s` is a duration, `64KiB` a size, and a bare number is neither.

Both are read from a string once, at the edge; inside they are a float of seconds and an int of bytes.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_DURATION = re.compile(r"(?P<n>\d+(?:\.\d+)?)(?P<unit>ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(?P<n>\d+)(?P<unit>B|KiB|MiB|GiB|TiB)")
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def seconds(text: Any) -> float:
    """Seconds in a duration such as `500ms`, `10s`, `5m`, `2h` or `30d`. Raises ValueError."""
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a duration needs a unit, for example 500ms, 10s, 5m, 2h or 30d")
    return float(match["n"]) * _SECONDS[match["unit"]]


def size(text: Any) -> int:
    """Bytes in a size such as `64KiB` or `2GiB`. Raises ValueError."""
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a size needs a unit, for example 64KiB, 10MiB or 2GiB")
    return int(match["n"]) * _BYTES[match["unit"]]


Duration = Annotated[
    float,
    BeforeValidator(seconds),
    WithJsonSchema({"type": "string", "pattern": rf"^{_DURATION.pattern.replace('?P<n>', '').replace('?P<unit>', '')}$"}),
]
"""Seconds as a float; written with a unit (`10s`)."""

Size = Annotated[
    int,
    BeforeValidator(size),
    WithJsonSchema({"type": "string", "pattern": rf"^{_SIZE.pattern.replace('?P<n>', '').replace('?P<unit>', '')}$"}),
]
"""Bytes as an int; written with a unit (`64KiB`)."""
