"""What is sent back to a replica: labels, and the order to put its logs into the store. Always with the token."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackyard.serving import labels, protocol
from stackyard.serving.labels import LabelLog
from stackyard.serving.protocol import RequestError
from stackyard.spec.models import TaskSpec
from stackyard.store.keys import KeyFileError, read_private

FLUSH_SECONDS = 10.0
"""How long a flush may take."""


@dataclass
class Feedback:
    """The private side of one replica."""

    token_path: Path | None
    log: LabelLog
    flush_log: Callable[[float], int]
    """See what was answered in the store within seconds; returns rows. Raises OSError or TimeoutError."""

    def admit(self, authorization: str | None) -> None:
        """Let in whoever has the token. Raises RequestError 401, or 403 where there is no token to have."""
        remedy = "set labels_token_path in the settings of serving to a private file (chmod 600) with a token"
        if self.token_path is None:
            raise RequestError(403, f"this service takes no labels: {remedy}")
        try:
            token = read_private(self.token_path).strip()
        except (KeyFileError, OSError) as error:
            raise RequestError(403, f"this service takes no labels, as its token cannot be read: {error}") from None
        scheme, _, given = (authorization or "").partition(" ")
        if not token or scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token):
            raise RequestError(401, "send the token of this stack as `Authorization: Bearer TOKEN`")

    async def labels(self, body: bytes, task: TaskSpec) -> dict[str, Any]:
        """Take the labels in `body`. Raises RequestError: 400 and 422 for a wrong body, 507 when the disk is full."""
        found = labels.read(protocol.parsed(body), task)
        try:
            return {"accepted": await asyncio.to_thread(self.log.take, found)}
        except OSError as error:  # not 503: HAProxy would try again, and fail again
            raise RequestError(507, f"the labels could not be kept: {error.strerror or error}") from None

    async def flush(self) -> dict[str, Any]:
        """Put all that was answered and sent back before into the store. Raises RequestError 507."""
        try:
            return {"rows": await asyncio.to_thread(self.flush_log, FLUSH_SECONDS)}
        except TimeoutError:
            raise RequestError(507, f"the logs are not in the store after {FLUSH_SECONDS:g} s") from None
        except OSError as error:
            raise RequestError(507, f"the logs are not in the store: {error}") from None
