"""Private keys and tokens rest in files that only their owner can read; a file that others can read is refused."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class KeyFileError(Exception):
    """A key file that is missing, malformed or open to others."""


def write_private(path: Path, data: bytes) -> None:
    """Create `path` (0600) with `data`, whole or not at all. Raises FileExistsError when it is there."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(scratch, path)  # fails if a rival was first, so two writers agree on one key
    finally:
        scratch.unlink()


def read_private(path: Path) -> bytes:
    """The content of a private file. Raises KeyFileError when absent or readable by others."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise KeyFileError(f"{path} is open to others (mode {mode:04o}): chmod 600 it, or remove it for a new one")
        return path.read_bytes()
    except FileNotFoundError:
        raise KeyFileError(f"{path} does not exist") from None


def ensure_signing_key(path: Path) -> Ed25519PrivateKey:
    """The ed25519 key at `path` (32 raw bytes), made when absent."""
    if not path.exists():
        with contextlib.suppress(FileExistsError):
            write_private(path, Ed25519PrivateKey.generate().private_bytes_raw())
    return Ed25519PrivateKey.from_private_bytes(read_private(path))


def ensure_token(path: Path) -> str:
    """The random token at `path` (64 hex digits), made when absent."""
    if not path.exists():
        with contextlib.suppress(FileExistsError):
            write_private(path, secrets.token_hex(32).encode())
    return read_private(path).decode().strip()


def main(arguments: list[str]) -> None:
    """`python -m stackyard.store.keys FOLDER`: make what is absent there, print where it is and the public halves."""
    import json

    from stackyard.store.documents import public_text

    folder = Path(arguments[0])
    release, operator = folder / "release-key", folder / "operator.key"
    ray, labels = folder / "ray-token", folder / "labels-token"
    for token in (ray, labels):
        ensure_token(token)
    made = {
        "public_keys": [public_text(ensure_signing_key(release).public_key())],
        "signing_key": str(release),
        "token_path": str(ray),
        "operator_keys": [public_text(ensure_signing_key(operator).public_key())],
        "operator_key": str(operator),
        "labels_token_path": str(labels),
    }
    print(json.dumps(made))


if __name__ == "__main__":
    import sys

    try:
        main(sys.argv[1:])
    except (KeyFileError, OSError) as error:
        sys.exit(str(error))
