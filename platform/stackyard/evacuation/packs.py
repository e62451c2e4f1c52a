"""Small files share packs, large ones are spread over them: few objects, written once, named by their sha256.

A pack is the stored bytes of its pieces, one after the other; where each lies is in the listings that name it. One
pack is filled while the one before is on its way to the store, so memory holds two. Nothing is remembered of a pack
before the store has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from stackyard.evacuation import failpoints
from stackyard.evacuation.blobs import Coder, Ref
from stackyard.evacuation.cache import Cache
from stackyard.evacuation.errors import DamageError, reaching
from stackyard.store import layout
from stackyard.store.objects import Store, sha256

PACK = 16 << 20
"""Bytes after which a pack is closed."""
PIECES = 8192
"""Pieces after which a pack is closed, so that entries do not wait long for where they lie."""
_GAP = 128 << 10
"""Bytes between two wanted pieces that are cheaper to read than another request."""
_READ = 16 << 20


@dataclass(slots=True)
class Piece:
    """A piece on its way: `ref` is known once its pack is closed."""

    size: int
    ref: Ref | None = None

    @property
    def place(self) -> Ref:
        """Where it lies. Only once its pack is closed."""
        if self.ref is None:
            raise RuntimeError("a piece was listed before it was stored")
        return self.ref


class Packer:
    """Takes content, gives places."""

    def __init__(self, store: Store, cluster: str, coder: Coder, cache: Cache) -> None:
        self._store, self._cluster, self._coder, self._cache = store, cluster, coder, cache
        self._open: dict[str, Piece] = {}
        self._parts: list[tuple[str, bytes, int]] = []
        self._bytes = 0
        self._pool = ThreadPoolExecutor(1, "stackyard-packs")
        self._sent: Future[None] | None = None
        self.stored = 0
        """Bytes of packs so far."""

    def add(self, data: bytes) -> Piece:
        """Have `data` in the store sooner or later. Raises what a pack before met on its way."""
        digest = self._coder.digest(data)
        if (waiting := self._open.get(digest)) is not None:
            return waiting
        if (known := self._cache.piece(digest)) is not None:
            return Piece(len(data), known)
        piece = self._open[digest] = Piece(len(data))
        part = self._coder.encode(data, digest)
        self._parts.append((digest, part, len(data)))
        self._bytes += len(part)
        if self._bytes >= PACK or len(self._parts) >= PIECES:
            self.close()
        return piece

    def close(self) -> None:
        """End the open pack and send it off; its pieces then know their places."""
        self._arrived()
        if not self._parts:
            return
        data = b"".join(part for _, part, _ in self._parts)
        pack, offset = sha256(data), 0
        refs: list[Ref] = []
        for digest, part, size in self._parts:
            ref = self._open[digest].ref = Ref(pack, offset, len(part), size, digest)
            refs.append(ref)
            offset += len(part)
        self._cache.add_pieces(refs)
        self.stored += len(data)
        self._open, self._parts, self._bytes = {}, [], 0
        self._sent = self._pool.submit(self._send, pack, data)

    def settle(self) -> None:
        """Return when everything is in the store."""
        self.close()
        self._arrived()

    def stop(self) -> None:
        """Give up whatever is not yet stored."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _send(self, pack: str, data: bytes) -> None:
        with reaching(self._store.url):
            self._store.keep(layout.workspace_pack(self._cluster, pack), data)
        failpoints.hit("pack-stored")

    def _arrived(self) -> None:
        if self._sent is not None:
            self._sent.result()
            self._sent = None
            self._cache.commit()


class Fetcher:
    """Reads pieces back, each checked."""

    def __init__(self, store: Store, cluster: str, coder: Coder) -> None:
        self._store, self._cluster, self._coder = store, cluster, coder

    def one(self, ref: Ref) -> bytes:
        """The content at `ref`. Raises DamageError, StoreAwayError."""
        return self._coder.decode(self._span(ref.pack, ref.offset, ref.length), ref)

    def many(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, bytes | DamageError]]:
        """The content of each, or why there is none; neighbours in a pack are read together, in any order."""
        for run in _runs(refs):
            start = run[0].offset
            end = max(ref.offset + ref.length for ref in run)
            try:
                data = self._span(run[0].pack, start, end - start)
            except DamageError:
                for ref in run:  # a pack that lost its end still holds its beginning
                    yield ref, self._alone(ref)
                continue
            for ref in run:
                yield ref, self._decoded(data[ref.offset - start : ref.offset - start + ref.length], ref)

    def _alone(self, ref: Ref) -> bytes | DamageError:
        try:
            return self.one(ref)
        except DamageError as error:
            return error

    def _decoded(self, stored: bytes, ref: Ref) -> bytes | DamageError:
        try:
            return self._coder.decode(stored, ref)
        except DamageError as error:
            return error

    def _span(self, pack: str, start: int, length: int) -> bytes:
        try:
            with reaching(self._store.url):
                data = self._store.read_range(layout.workspace_pack(self._cluster, pack), start, length)
        except KeyError:
            raise DamageError(f"pack {pack[:12]} is missing") from None
        if len(data) != length:
            raise DamageError(f"pack {pack[:12]} is cut off: it ends before byte {start + length}")
        return data


def _runs(refs: Iterable[Ref]) -> Iterator[list[Ref]]:
    """References grouped into what one request reads."""
    run: list[Ref] = []
    for ref in sorted(set(refs), key=lambda r: (r.pack, r.offset)):
        if run and (
            ref.pack != run[-1].pack
            or ref.offset - (run[-1].offset + run[-1].length) > _GAP
            or ref.offset + ref.length - run[0].offset > _READ
        ):
            yield run
            run = []
        run.append(ref)
    if run:
        yield run
