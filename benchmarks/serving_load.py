"""A load generator for one URL: closed loop over kept-alive connections, every answer's status and time kept.

Prints one JSON line: requests, failed, codes, seconds, rate, p50/p90/p99/max in milliseconds. Raw sockets and no HTTP
library, since on two cores the generator must cost less than what it measures. With --lines it also prints
`started` once the first answer is in, so that a test knows when to break something.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import signal
import time
from urllib.parse import urlsplit


class Tally:
    """What came back, shared by all connections."""

    def __init__(self, total: int, seconds: float | None, announce: bool) -> None:
        self.left, self.until = total, None if seconds is None else time.perf_counter() + seconds
        self.codes: collections.Counter[str] = collections.Counter()
        self.times: list[float] = []
        self.announce = announce

    def more(self) -> bool:
        """Whether another request is to be sent; counts it."""
        if self.until is not None:
            return time.perf_counter() < self.until
        self.left -= 1
        return self.left >= 0

    def stop(self) -> None:
        """No more requests; those on their way are awaited."""
        self.left, self.until = 0, None

    def note(self, code: str, seconds: float) -> None:
        """One answer, or one failure by name."""
        self.codes[code] += 1
        self.times.append(seconds)
        if self.announce:
            self.announce = False
            print("started", flush=True)


async def connection(host: str, port: int, message: bytes, tally: Tally, patience: float) -> None:
    """Ask until the tally has enough; a broken connection is a failed request, then made anew."""
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    while tally.more():
        began = time.perf_counter()
        try:
            if reader is None or writer is None:
                reader, writer = await asyncio.open_connection(host, port)
            writer.write(message)
            code, close = await asyncio.wait_for(answer(reader), patience)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
            code, close = type(error).__name__, True
            await asyncio.sleep(0.01)
        tally.note(code, time.perf_counter() - began)
        if close and writer is not None:
            writer.close()
            reader = writer = None
    if writer is not None:
        writer.close()


async def answer(reader: asyncio.StreamReader) -> tuple[str, bool]:
    """(status, whether the server closes the connection) of one answer, body read to its end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status, _, fields = head.partition("\r\n")
    size = 0
    for line in fields.split("\r\n"):
        if line.startswith("content-length:"):
            size = int(line[15:])
    if "transfer-encoding: chunked" in fields:
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        size = 2
    await reader.readexactly(size)
    return status.split()[1], "connection: close" in fields


async def run(options: argparse.Namespace) -> Tally:
    """Every connection, to the end."""
    address = urlsplit(options.url)
    body = options.body.encode()
    head = f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
    message = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    tally = Tally(options.requests, options.seconds, options.lines)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, tally.stop)
    jobs = [
        connection(address.hostname or "127.0.0.1", address.port or 80, message, tally, options.timeout)
        for _ in range(options.connections)
    ]
    await asyncio.gather(*jobs)
    return tally


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("body", help="the JSON to post")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--seconds", type=float, help="run this long instead of a number of requests")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--timeout", type=float, default=30)
    parser.add_argument("--lines", type=int, default=0)
    options = parser.parse_args()
    began = time.perf_counter()
    tally = asyncio.run(run(options))
    seconds, times = time.perf_counter() - began, sorted(tally.times)
    at = {name: times[min(len(times) - 1, int(len(times) * share))] for name, share in SHARES.items()}
    count = len(times)
    found = {
        "requests": count,
        "failed": count - tally.codes["200"],
        "codes": dict(tally.codes),
        "seconds": round(seconds, 3),
        "rate": round(count / seconds, 1),
        **{name: round(value * 1000, 3) for name, value in at.items()},
    }
    print(json.dumps(found), flush=True)


SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}

if __name__ == "__main__":
    main()
