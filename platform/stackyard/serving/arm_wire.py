"""What a replica and its challenger's process say to one another: lengths, Arrow and plain floats; never a pickle.

The process runs code that may be bad in any way, so whatever comes from it is read as data of a bounded size and
checked against what was asked.

A message is its size (8 bytes) and content. A question is `[size of head][head: JSON list of rows per request][rows:
Arrow IPC stream]`. An answer is `[size of head][head: JSON {"results": [null | [outcome, words], ...]}][float64
outputs, row-major, of the requests whose result is null]`.
"""

from __future__ import annotations

import io
import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

LARGEST = 64 << 20
"""Bytes of one message."""
WORDS = 300
"""Characters kept of what the process says of an error."""

_SIZE, _HEAD = struct.Struct("<Q"), struct.Struct("<I")
PREFIX = _SIZE.size


class WireError(Exception):
    """A message that is none."""


@dataclass(frozen=True, slots=True)
class Miss:
    """Why one request has no answer: `error` or `not_finite`, and words."""

    outcome: str
    words: str


Result = np.ndarray | Miss


def framed(content: bytes) -> bytes:
    """`content` with its size before it."""
    return _SIZE.pack(len(content)) + content


def size(prefix: bytes) -> int:
    """The size that a message's first PREFIX bytes announce. Raises WireError past LARGEST."""
    (found,) = _SIZE.unpack(prefix)
    if found > LARGEST:
        raise WireError(f"a message of {found} bytes")
    return found


def question(frame: pl.DataFrame, counts: list[int]) -> bytes:
    """Rows of several requests; `counts` has the rows of each."""
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer)
    return _joined(counts, buffer.getvalue())


def read_question(content: bytes) -> tuple[pl.DataFrame, list[int]]:
    """What `question` was given."""
    counts, raw = _split(content)
    return pl.read_ipc_stream(io.BytesIO(raw)), counts


def answer(results: list[Result]) -> bytes:
    """One result a request: outputs [rows, outputs] or a miss."""
    told = [None if isinstance(found, np.ndarray) else [found.outcome, found.words[:WORDS]] for found in results]
    outputs = [np.ascontiguousarray(found, dtype="<f8").tobytes() for found in results if isinstance(found, np.ndarray)]
    return _joined({"results": told}, b"".join(outputs))


def read_answer(content: bytes, counts: list[int], width: int) -> list[Result]:
    """The results for requests of `counts` rows and `width` outputs each; numbers that are none are a miss.

    Raises WireError when it is not an answer to that.
    """
    head, raw = _split(content)
    told = head.get("results") if isinstance(head, dict) else None
    if not isinstance(told, list) or len(told) != len(counts):
        raise WireError("an answer to something else")
    results: list[Result] = []
    start = 0
    for entry, count in zip(told, counts, strict=True):
        if entry is not None:
            results.append(_miss(entry))
            continue
        end = start + 8 * count * width
        if end > len(raw):
            raise WireError("an answer that is too short")
        outputs = np.frombuffer(raw[start:end], dtype="<f8").reshape(count, width)
        results.append(outputs if np.isfinite(outputs).all() else Miss("not_finite", "numbers that are none"))
        start = end
    if start != len(raw):
        raise WireError("an answer that is too long")
    return results


def _miss(entry: Any) -> Miss:
    if not (isinstance(entry, list) and len(entry) == 2 and entry[0] in ("error", "not_finite")):
        raise WireError("an answer without an outcome")
    return Miss(entry[0], str(entry[1])[:WORDS])


def _joined(head: Any, tail: bytes) -> bytes:
    raw = json.dumps(head).encode()
    return _HEAD.pack(len(raw)) + raw + tail


def _split(content: bytes) -> tuple[Any, bytes]:
    try:
        (length,) = _HEAD.unpack_from(content)
        raw = content[_HEAD.size : _HEAD.size + length]
        return json.loads(raw), content[_HEAD.size + length :]
    except (struct.error, ValueError, RecursionError) as error:
        raise WireError(f"a message that cannot be read: {error}") from None
