"""A POST that its receiver can believe: signed, dated, and the same id however often it arrives.

`X-Stackyard-Signature: sha256=HEX` is the HMAC-SHA256 of `TIMESTAMP.BODY` under the shared key,
`X-Stackyard-Timestamp` the Unix time of this delivery, and `Idempotency-Key` the id of the event for this receiver.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import httpx

SIGNATURE, TIMESTAMP, ID = "X-Stackyard-Signature", "X-Stackyard-Timestamp", "Idempotency-Key"
TOLERANCE = 300.0
"""Seconds by which a receiver's clock may differ; an older delivery is a replay."""
PATIENCE = 10.0
"""Seconds that a receiver has to answer."""


class NotDeliveredError(Exception):
    """A delivery that failed; `final` when the receiver will not take it at another time either."""

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.final = final


def headers(key: bytes, body: bytes, identity: str, now: float) -> dict[str, str]:
    """The headers of one delivery at Unix time `now`."""
    timestamp = str(int(now))
    return {
        "Content-Type": "application/json",
        SIGNATURE: f"sha256={_signature(key, timestamp, body)}",
        TIMESTAMP: timestamp,
        ID: identity,
    }


def genuine(key: bytes, found: Mapping[str, str], body: bytes, now: float) -> bool:
    """What a receiver asks: whether a holder of `key` sent exactly `body`, within `TOLERANCE` of Unix time `now`.

    That it comes only once is for the receiver to see, by the Idempotency-Key.
    """
    plain = {name.lower(): value for name, value in found.items()}
    timestamp = plain.get(TIMESTAMP.lower(), "")
    expected = f"sha256={_signature(key, timestamp, body)}"
    dated = timestamp.isascii() and timestamp.isdigit() and abs(now - int(timestamp)) <= TOLERANCE
    return hmac.compare_digest(expected.encode(), plain.get(SIGNATURE.lower(), "").encode()) and dated


def post(secret: str, message: Mapping[str, Any], now: float) -> None:
    """Deliver `message` to the place in `secret` (`URL KEY`). Raises NotDeliveredError, which never names the URL."""
    url, _, key = secret.strip().partition(" ")
    if not key.strip():
        raise NotDeliveredError("the secret is not `URL SIGNING_KEY`")
    body = str(message["body"]).encode()
    try:
        answer = httpx.post(
            url,
            content=body,
            headers=headers(key.strip().encode(), body, str(message["id"]), now),
            timeout=PATIENCE,
            follow_redirects=False,
        )
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise NotDeliveredError(type(error).__name__) from None
    if not answer.is_success:
        refused = 400 <= answer.status_code < 500 and answer.status_code not in (408, 409, 425, 429)
        raise NotDeliveredError(f"answered {answer.status_code}", final=refused)


def _signature(key: bytes, timestamp: str, body: bytes) -> str:
    return hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
