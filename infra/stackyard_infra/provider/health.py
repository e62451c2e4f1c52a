"""When is a process healthy? Asked from outside, the way its users will: over HTTP, a socket, or its word in a file.

A probe is plain data: `{"http": url}`, `{"tcp": port}`, `{"unix": path}`, `{"acknowledges": path, "file": name}` (the
process writes the sha256 of the settings it runs on into `path`), each with `timeout` (seconds), or `{}`: running.
"""

from __future__ import annotations

import hashlib
import http.client
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
ONE_PROBE = 3.0  # seconds; a probe only asks what is already there


def complaint(probe: Mapping[str, Any], folder: Path) -> str | None:
    """What is wrong, in a few words, or None when healthy. `folder` holds the process' own files."""
    try:
        if "http" in probe:
            with _DIRECT.open(probe["http"], timeout=ONE_PROBE) as answer:
                return None if answer.status < 400 else f"{probe['http']} answers {answer.status}"
        if "tcp" in probe:
            socket.create_connection(("127.0.0.1", probe["tcp"]), ONE_PROBE).close()
        if "unix" in probe:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(ONE_PROBE)
                client.connect(probe["unix"])
        if "acknowledges" in probe:
            return _acknowledged(Path(probe["acknowledges"]), folder / probe["file"])
    except urllib.error.HTTPError as error:
        return f"{probe['http']} answers {error.code}"
    except (OSError, http.client.HTTPException) as error:
        return f"it does not answer yet ({error})"
    return None


def _acknowledged(word: Path, settings: Path) -> str | None:
    try:
        said = word.read_text().split()
    except FileNotFoundError:
        return "it is still starting"
    wanted = hashlib.sha256(settings.read_bytes()).hexdigest()
    return None if wanted in said else "it has not taken up its settings yet"
