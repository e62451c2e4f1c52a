"""Where a large file is cut, so that an insertion or a change costs one or two chunks and not the rest of the file.

A cut is where a hash of the 32 bytes before it is small, so equal content is cut alike wherever it lies. Two stages
make numpy fast enough: three bytes that combine to MARK (1 place in 256), and only there the hash (1 in 4096), so a
chunk has 1 MiB on average beyond LEAST. This cuts as FastCDC (Xia et al., 2016) does, without its dependency.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LEAST, MOST = 256 << 10, 4 << 20
"""Bytes of a chunk; the last one of a file may be shorter."""
_BLOCK = 4 << 20
_STEP = 64 << 10  # what stays in a core's cache: 1 MiB steps take twice as long
_WINDOW, _MARK, _LIMIT = 32, 0xA7, 1 << 52
_BACK = _WINDOW + 2
# xxHash64's primes and like them: odd, half their bits set
_FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)


def chunks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Cut what `read(n)` gives (at most n bytes, b"" at the end) into chunks; together they are the whole."""
    data, marks = b"", list[int]()
    while block := read(_BLOCK):
        known, data = len(data), data + block
        marks += _marks(data, known)
        start = 0
        while (end := _cut(marks, start, len(data))) is not None:
            yield data[start:end]
            start = end
        data, marks = data[start:], [mark - start for mark in marks if mark > start]
    start = 0
    while (end := _cut(marks, start, len(data))) is not None:
        yield data[start:end]
        start = end
    if start < len(data):
        yield data[start:]


def _cut(marks: list[int], start: int, length: int) -> int | None:
    """The end of the chunk that begins at `start`; None when more must be read to know."""
    for mark in marks:
        if mark - start > MOST:
            break
        if mark - start >= LEAST:
            return mark
    return start + MOST if length - start >= MOST else None


def _marks(data: bytes, known: int) -> list[int]:
    """Every place after `known` where a chunk may end."""
    import numpy as np  # for large files only; a save of an unchanged workspace starts in half the time without

    whole = np.frombuffer(data, dtype=np.uint8)
    factors, limit, offsets = _constants()
    found: list[int] = []
    for begin in range(known, len(whole), _STEP):
        back = min(begin, _BACK)
        part = whole[begin - back : begin + _STEP]
        mixed = part[2:] ^ part[1:-1]
        mixed += part[:-2]
        ends = (mixed == _MARK).nonzero()[0] + 3
        ends = ends[(ends > back) & (ends >= _WINDOW)]
        windows = part[(ends - _WINDOW)[:, None] + offsets].view("<u8")
        hashes = (windows * factors).sum(axis=1, dtype=np.uint64)
        hashes = (hashes ^ (hashes >> np.uint64(29))) * factors[0]
        found += (ends[hashes < limit] + (begin - back)).tolist()
    return found


@functools.cache
def _constants() -> tuple[np.ndarray, np.uint64, np.ndarray]:
    import numpy as np

    return np.array(_FACTORS, dtype=np.uint64), np.uint64(_LIMIT), np.arange(_WINDOW)
