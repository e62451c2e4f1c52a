"""All replicas' logs into the store, now: for whoever is about to read them, like a replay or a test.

The front sends a request to one replica only, so each port on which a replica may answer is asked itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import httpx

from stackyard.serving.feedback import FLUSH_SECONDS


class FlushError(Exception):
    """A replica that answers did not flush."""


def flush_all(ports: Iterable[int], token: str, *, address: str = "127.0.0.1") -> dict[int, int]:
    """Flush every replica that answers; rows put into the store by each port. Raises FlushError."""
    return asyncio.run(_flush_all(list(ports), token, address))


async def _flush_all(ports: list[int], token: str, address: str) -> dict[int, int]:
    timeout = httpx.Timeout(FLUSH_SECONDS + 5.0, connect=2.0)
    async with httpx.AsyncClient(timeout=timeout, trust_env=False) as client:
        answers = await asyncio.gather(*(_flush(client, f"http://{address}:{port}/flush", token) for port in ports))
    return {port: rows for port, rows in zip(ports, answers, strict=True) if rows is not None}


async def _flush(client: httpx.AsyncClient, url: str, token: str) -> int | None:
    try:
        response = await client.post(url, headers={"authorization": f"Bearer {token}"})
    except httpx.ConnectError:
        return None  # nobody there
    except httpx.HTTPError as error:  # it went away meanwhile: what it left is rolled by another
        raise FlushError(f"{url}: {type(error).__name__}") from None
    if response.status_code != 200:
        raise FlushError(f"{url}: {response.status_code} {response.text[:200]}")
    return int(response.json()["rows"])
