"""Units belong to the type: `10s` is a duration, `64KiB` a size, and a bare number is neither.

Both are read from a string once, at the edge; inside they are a float of seconds and an int of bytes.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema

PLAIN: Final = {"units": "plain"}
"""The validation context in which units are plain numbers, as `plain.dump` writes them."""

# At most twelve digits: no number of days or tebibytes overflows, and no long one costs time.
DURATION: Final = r"([0-9]{1,12}(?:\.[0-9]{1,12})?)(ms|s|m|h|d)"
SIZE: Final = r"([0-9]{1,12})(B|KiB|MiB|GiB|TiB)"
DAY: Final = r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def seconds(text: Any) -> float:
    """Seconds in a duration such as `500ms`, `10s`, `5m`, `2h` or `30d`. Raises ValueError."""
    match = re.fullmatch(DURATION, text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a duration needs a unit, for example 500ms, 10s, 5m, 2h or 30d")
    return float(match[1]) * _SECONDS[match[2]]


def size(text: Any) -> int:
    """Bytes in a size such as `64KiB` or `2GiB`. Raises ValueError."""
    match = re.fullmatch(SIZE, text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a size needs a unit, for example 64KiB, 10MiB or 2GiB")
    return int(match[1]) * _BYTES[match[2]]


def day(text: Any) -> dt.date:
    """The day written as `2013-01-31`. Raises ValueError."""
    if isinstance(text, dt.date) and not isinstance(text, dt.datetime):
        return text
    match = re.fullmatch(DAY, text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a day is written as year-month-day, for example 2013-01-31")
    try:
        return dt.date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        raise ValueError("there is no such day in the calendar") from None


def duration_text(value: float) -> str:
    """A duration as an author would write it, in the largest unit that keeps it whole: 3600.0 is `1h`."""
    for unit in ("d", "h", "m", "s"):
        if value and value % _SECONDS[unit] == 0:
            return f"{value / _SECONDS[unit]:.0f}{unit}"
    return f"{value * 1000:.15g}ms" if value else "0s"


def size_text(value: int) -> str:
    """A size as an author would write it: 65536 is `64KiB`."""
    unit = next((each for each in ("TiB", "GiB", "MiB", "KiB") if value and value % _BYTES[each] == 0), "B")
    return f"{value // _BYTES[unit]}{unit}"


def _seconds(value: Any, info: ValidationInfo) -> Any:
    return value if info.context is PLAIN else seconds(value)


def _size(value: Any, info: ValidationInfo) -> Any:
    return value if info.context is PLAIN else size(value)


Duration = Annotated[float, BeforeValidator(_seconds), WithJsonSchema({"type": "string", "pattern": f"^{DURATION}$"})]
"""Seconds as a float; written with a unit (`10s`)."""

Size = Annotated[int, BeforeValidator(_size), WithJsonSchema({"type": "string", "pattern": f"^{SIZE}$"})]
"""Bytes as an int; written with a unit (`64KiB`)."""

Day = Annotated[
    dt.date, BeforeValidator(day), WithJsonSchema({"type": "string", "format": "date", "pattern": f"^{DAY}$"})
]
"""A calendar day, UTC; written as `2013-01-31`."""
