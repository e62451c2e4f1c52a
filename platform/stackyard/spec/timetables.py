"""Whether a cron expression can ever fire, found field by field before anything is scheduled."""

from __future__ import annotations

import re
from typing import Final

_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIELDS: Final = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)
_LONGEST: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def refusal(cron: str) -> str | None:
    """What is wrong with five fields of minute, hour, day of month, month, day of week; None if nothing is.

    Fields as cronsim reads them: `*`, numbers, names, ranges, steps and lists of those; `L` for the last day of the
    month, `MON#2` for the second Monday, `5L` for the last Friday.
    """
    fields = cron.split(" ")
    if len(fields) != len(_FIELDS):
        return "is not five fields"
    found: list[set[int]] = []
    for text, (name, least, most, names) in zip(fields, _FIELDS, strict=True):
        values: set[int] = set()
        for part in text.split(","):
            chosen = _values(part.upper(), name, least, most, names)
            if chosen is None:
                return f"has {part or 'nothing'} where the {name} is from {least} to {most}"
            values |= chosen
        found.append(values)
    days, months = found[2], found[3]
    if fields[4] == "*" and not any(min(days) <= _LONGEST[month - 1] for month in months):
        return "never fires: no such month has such a day"
    return None


def _values(part: str, name: str, least: int, most: int, names: tuple[str, ...]) -> set[int] | None:
    """The values that one part of a list stands for, or None."""
    if name == "day of month" and part in ("L", "LW"):
        return {28}
    if name == "day of week" and (match := re.fullmatch(r"(\w+)#[1-5]|(\d)L", part)):
        part = match[1] or match[2]
    span, slash, step = part.partition("/")
    if slash and not (step.isdigit() and step.isascii() and 0 < int(step) <= most):
        return None
    first, dash, last = span.partition("-")
    if span == "*":
        low, high = least, most
    else:
        low, high = _one(first, names, least), _one(last, names, least) if dash else None
        if low is None or (dash and high is None):
            return None
        high = high if high is not None else (most if slash else low)
    if not least <= low <= high <= most:
        return None
    return set(range(low, high + 1, int(step) if slash else 1))


def _one(text: str, names: tuple[str, ...], least: int) -> int | None:
    if text in names:
        return names.index(text) + least
    return int(text) if text.isdigit() and text.isascii() and len(text) <= 2 else None
