"""One question to a server of a leased cluster, which its user may have put there: it ends in time, whatever answers.

A timeout of a socket counts from one byte to the next, so a server that sends a byte now and then is waited for without
end: the saver would save no more, and the reaper end no lease.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

MOST = 32 << 20
"""Bytes of an answer that are read; a thousand jobs of Ray take one or two million."""
ERRORS = (OSError, ValueError, http.client.HTTPException)
"""What `get` raises."""


def get(url: str, headers: Mapping[str, str], seconds: float) -> tuple[int, bytes]:
    """Status and body. Raises ERRORS; TimeoutError when not all of it was there after so many `seconds`."""
    where = urlsplit(url)
    if where.scheme != "http":
        raise ValueError("only plain HTTP is spoken on a machine")
    late, connection = threading.Event(), http.client.HTTPConnection(where.netloc, timeout=seconds)
    try:
        connection.connect()
        with _cut_after(seconds, connection.sock, late):
            connection.request("GET", where.path or "/", headers=dict(headers))
            answer = connection.getresponse()
            body = answer.read(MOST + 1)
    except (OSError, http.client.HTTPException):
        if late.is_set():
            raise TimeoutError from None
        raise
    finally:
        connection.close()
    if late.is_set():
        raise TimeoutError
    if len(body) > MOST:
        raise ValueError("the answer has no end")
    return answer.status, body


def authorized(scheme: str, token: str | Path | None) -> dict[str, str]:
    """The header for the token in a file; none where there is none. Raises OSError, UnicodeDecodeError."""
    held = "" if token is None else Path(token).read_text().strip()
    return {"Authorization": f"{scheme} {held}"} if held else {}


@contextlib.contextmanager
def _cut_after(seconds: float, line: socket.socket, late: threading.Event) -> Iterator[None]:
    def cut() -> None:
        late.set()
        with contextlib.suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
