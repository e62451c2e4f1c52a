"""Requests over HTTP to the live service: many kept-alive connections, every answer's status and time counted.

What fails is a failure that a user would have seen: it is counted at once and for good, and then asked again, so that
a row is in the log all the same.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

from stackyard.replay.rows import Request

CONNECTIONS = 16
"""Requests in progress: enough to keep two replicas busy, too few to fill their queues."""
TRIES = 5
PATIENCE = aiohttp.ClientTimeout(total=30)
LABELS_AT_ONCE = 400
"""Labels of one POST: well below the smallest body that a service takes by default."""
EDGES = 10
"""Buckets of latency per factor of ten."""


@dataclass
class Traffic:
    """What came back. `buckets[n]` counts answers of about 10^(n/10) microseconds."""

    answered: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)
    """One entry for each try that failed: `request_id`, `why`."""
    lost: list[str] = field(default_factory=list)
    """Ids of requests that got no answer at all."""
    buckets: Counter[int] = field(default_factory=Counter)

    def note(self, seconds: float) -> None:
        """One answer."""
        self.answered += 1
        self.buckets[max(0, round(EDGES * math.log10(max(seconds, 1e-6) * 1e6)))] += 1

    def add(self, other: Traffic) -> None:
        """Count what `other` counted, too."""
        self.answered += other.answered
        self.failures += other.failures
        self.lost += other.lost
        self.buckets += other.buckets


def quantile(buckets: Counter[int], q: float) -> float | None:
    """Seconds that a share `q` of answers did not exceed, to 12 %; None without answers."""
    left = q * sum(buckets.values())
    for place in sorted(buckets):
        left -= buckets[place]
        if left <= 0:
            return 10 ** (place / EDGES) / 1e6
    return None


class Sender:
    """A client of one stack; open it with `async with`."""

    def __init__(self, predict: str, token: str, failed: Callable[[dict[str, str]], None] = lambda _: None) -> None:
        """`predict`: address of predictions; `token` lets labels in; `failed` is called at once for each failure."""
        where = urlsplit(predict)
        self._predict, self._labels = predict, f"{where.scheme}://{where.netloc}/labels"
        self._token, self._failed = token, failed
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=20)
        self._session = aiohttp.ClientSession(connector=connector, timeout=PATIENCE, trust_env=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, requests: Sequence[Request]) -> Traffic:
        """Ask all, each until it is answered; returns what came back."""
        traffic, waiting = Traffic(), iter(requests)

        async def connection() -> None:
            for request in waiting:
                await self._one(request, traffic)

        await asyncio.gather(*(connection() for _ in range(min(CONNECTIONS, len(requests)))))
        return traffic

    async def tell(self, requests: Sequence[Request]) -> None:
        """Send the truths of `requests`. Raises OSError when they are not taken."""
        for start in range(0, len(requests), LABELS_AT_ONCE):
            part = requests[start : start + LABELS_AT_ONCE]
            entries = [{"request_id": request.request_id, "row": 0, "label": request.label} for request in part]
            await self._told({"labels": entries})

    async def _one(self, request: Request, traffic: Traffic) -> None:
        headers = {"content-type": "application/json", "x-request-id": request.request_id}
        for again in range(TRIES):
            began = time.perf_counter()
            why = await self._post(self._predict, request.body, headers, 200)
            if why is None:
                traffic.note(time.perf_counter() - began)
                return
            failure = {"request_id": request.request_id, "why": why}
            traffic.failures.append(failure)
            self._failed(failure)
            await asyncio.sleep(0.2 * 2**again)
        traffic.lost.append(request.request_id)

    async def _told(self, body: dict[str, Any]) -> None:
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._token}"}
        why = None
        for again in range(TRIES):
            if (why := await self._post(self._labels, json.dumps(body).encode(), headers, 202)) is None:
                return
            await asyncio.sleep(0.2 * 2**again)
        raise OSError(f"{self._labels} does not take labels: {why}")

    async def _post(self, url: str, body: bytes, headers: dict[str, str], wanted: int) -> str | None:
        """Why there is no answer of status `wanted`, or None."""
        assert self._session is not None
        try:
            async with self._session.post(url, data=body, headers=headers) as answer:
                text = await answer.read()
                return None if answer.status == wanted else f"{answer.status} {text[:200].decode(errors='replace')}"
        except (aiohttp.ClientError, OSError) as error:  # a timeout is an OSError
            return f"{type(error).__name__} {error}".strip()
