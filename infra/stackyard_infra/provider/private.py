"""Private files of plain data and of keys, each whole or not there at all."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from stackyard_infra.provider.site import write_private


def read_plain(path: Path) -> Any:
    """The JSON in `path`; None when it is not there or no JSON."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def write_plain(path: Path, value: Any) -> None:
    """Write `value` as JSON (0600), whole or not at all."""
    write_private(path, json.dumps(value, indent=1, sort_keys=True))


def random_file(path: Path) -> Path:
    """A private file of 32 random bytes, which is also what an ed25519 key is made of; made once."""
    with contextlib.suppress(FileExistsError):
        if path.exists():
            return path
        scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(32))
        try:
            os.link(scratch, path)
        finally:
            scratch.unlink()
    return path


def public_half(path: Path) -> str:
    """The public half (base64) of the ed25519 key at `path`, made when absent."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(random_file(path).read_bytes())
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()
