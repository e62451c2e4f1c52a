"""JSON as strangers send it, read without surprises.

The standard parser accepts NaN, keeps the last of two equal keys, recurses as deep as it is told to and passes
lone surrogates on; each of these has crashed or fooled a service behind it. Here each is one clear refusal.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

DEEPEST = 32
"""Brackets inside one another; the deepest sound request (a nested tensor) has 6."""


class JsonError(ValueError):
    """A body that is not the JSON this service reads."""


def parse(body: bytes) -> Any:
    """The value in `body` (UTF-8). Raises JsonError saying what is wrong, never anything else."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonError(f"the body is not UTF-8 (byte {error.start})") from None
    if _depth(text) > DEEPEST:
        raise JsonError(f"the body nests deeper than {DEEPEST} levels")
    try:
        value = _DECODER.decode(text)
    except JsonError:
        raise
    except RecursionError:
        raise JsonError("the body nests too deep") from None
    except ValueError as error:
        raise JsonError(f"the body is not JSON: {error}") from None
    if "\\u" in text or "\\U" in text:
        _refuse_surrogates(value)
    return value


def _depth(text: str) -> int:
    """An upper bound of the nesting; exact only when it is suspicious, as brackets may stand in strings."""
    if text.count("[") + text.count("{") <= DEEPEST:
        return 0
    depth = deepest = 0
    quoted = escaped = False
    for character in text:
        if escaped:
            escaped = False
        elif quoted:
            escaped, quoted = character == "\\", character != '"'
        elif character == '"':
            quoted = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise JsonError(f"the key {twice[:64]!r} stands twice in one object")
    return found


def _constant(text: str) -> NoReturn:
    raise JsonError(f"{text} is not JSON")


def _refuse_surrogates(value: Any) -> None:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            if not item.isascii() and any("\ud800" <= character <= "\udfff" for character in item):
                raise JsonError("a string holds half of a surrogate pair")
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            stack.extend(item.keys())
            stack.extend(item.values())


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
