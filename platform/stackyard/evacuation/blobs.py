"""A piece of content as it lies in the store: compressed, encrypted if so wished, and found by its digest.

The digest is that of the content as it was, so reading back proves the whole way: store, decryption, decompression.
With a key it is keyed (HMAC), or who sees the store could ask whether a known file is in it. Each piece has its own
random nonce; one key is good for 2^32 pieces (NIST SP 800-38D).
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from stackyard.evacuation.errors import DamageError, SettingsError
from stackyard.store.keys import KeyFileError, read_private

if TYPE_CHECKING:
    from pyarrow import Codec

CIPHER = "AES-256-GCM"
_RAW, _ZSTD = b"\x00", b"\x01"
_SAMPLE = 64 << 10
_NONCE = 12


@dataclass(frozen=True, slots=True)
class Ref:
    """Where a piece lies: `length` bytes from `offset` of pack `pack`; `size` bytes once decoded; hex digest `id`."""

    pack: str
    offset: int
    length: int
    size: int
    id: str

    def plain(self) -> list[Any]:
        """As JSON."""
        return [self.pack, self.offset, self.length, self.size, self.id]

    @classmethod
    def load(cls, plain: list[Any]) -> Ref:
        """What `plain` gave. Raises DamageError for anything else."""
        match plain:
            case [str(pack), int(offset), int(length), int(size), str(digest)]:
                return cls(pack, offset, length, size, digest)
            case _:
                raise DamageError("a listing of the store names a place that is none")


class Coder:
    """Content to stored bytes and back."""

    def __init__(self, key: bytes | None = None) -> None:
        self._keys = None if key is None else tuple(_derived(key, use) for use in (b"id", b"data", b"name"))
        self._cipher = None if self._keys is None else AESGCM(self._keys[1])

    @classmethod
    def of(cls, key: Path | None) -> Coder:
        """With the key in a private file, or without one. Raises SettingsError for a key that cannot be used."""
        if key is None:
            return cls()
        try:
            data = read_private(key)
        except (KeyFileError, OSError) as error:
            raise SettingsError(f"the encryption key: {error}") from None
        if len(data) != 32:
            raise SettingsError(f"the encryption key {key} has {len(data)} bytes instead of 32")
        return cls(data)

    @functools.cached_property
    def _zstd(self) -> Codec:
        import pyarrow  # half a second that a save of an unchanged workspace does not need

        return pyarrow.Codec("zstd", compression_level=1)

    @property
    def plain(self) -> dict[str, str] | None:
        """What a version says about its encryption; None without."""
        return None if self._keys is None else {"cipher": CIPHER, "key": self._keys[2].hex()[:16]}

    def digest(self, data: bytes) -> str:
        """The id of a piece, hex."""
        if self._keys is None:
            return hashlib.sha256(data).hexdigest()
        return hmac.digest(self._keys[0], data, "sha256").hex()

    def encode(self, data: bytes, digest: str) -> bytes:
        """The stored bytes of a piece whose id is `digest`."""
        stored = self._pressed(data)
        if self._cipher is None:
            return stored
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, stored, digest.encode())

    def decode(self, stored: bytes, ref: Ref) -> bytes:
        """The content of the piece at `ref`. Raises DamageError unless it is what was put there."""
        try:
            if self._cipher is not None:
                stored = self._cipher.decrypt(stored[:_NONCE], stored[_NONCE:], ref.id.encode())
            data = stored[1:]
            if stored[:1] == _ZSTD:
                data = self._zstd.decompress(data, decompressed_size=ref.size, asbytes=True)
        except (InvalidTag, ValueError, OSError):
            raise DamageError(f"pack {ref.pack[:12]} is damaged at byte {ref.offset}") from None
        if len(data) != ref.size or self.digest(data) != ref.id:
            raise DamageError(f"pack {ref.pack[:12]} is damaged at byte {ref.offset}: its digest differs")
        return data

    def _pressed(self, data: bytes) -> bytes:
        # What a sample says does not shrink (pictures, archives, weights) is not worth the time of the rest.
        if len(data) > 2 * _SAMPLE and len(self._zstd.compress(data[:_SAMPLE], asbytes=True)) > 0.95 * _SAMPLE:
            return _RAW + data
        pressed = self._zstd.compress(data, asbytes=True)
        return _ZSTD + pressed if len(pressed) < len(data) else _RAW + data


def _derived(key: bytes, use: bytes) -> bytes:
    return HKDF(SHA256(), 32, None, b"stackyard workspace " + use).derive(key)
