"""A certificate for people: one sentence, and a line for each thing that is not as it should be."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

from stackyard.certificates.certificate import Certificate
from stackyard.certificates.issuing import Issued, price

LINES = 20
WORDS = {
    "clean": "clean",
    "given-up": "given up, not clean",
    "leaked": "LEAKED",
    "lost": "LOST",
    "unproven": "not proven",
}


def plain(issued: Issued) -> dict[str, Any]:
    """For programs: `ok` unless something leaked, was lost, or could not be asked for."""
    body = issued.given.body
    return {
        "ok": body.verdict in ("clean", "given-up"),
        "verdict": body.verdict,
        "certificate": body.name,
        "place": issued.given.place,
        "path": str(issued.given.path),
        "sentence": sentence(body),
        "lines": list(lines(body)),
        "leaks": body.leaks,
        "losses": body.losses,
        "away": list(issued.away),
        "clusters": [each.body.name for each in issued.others],
    }


def sentence(body: Certificate) -> str:
    """`stack lab: clean: 0 leaked, 0 lost; up for 2h 3m; 4.1 CPU-hours, 0 GPU-hours, cost 1.20`."""
    lost = "0 lost" if not body.losses else f"{len(body.losses)} lost or not proven"
    given_up = f", {len(body.given_up)} given up" if body.given_up else ""
    counts = f"{len(body.leaks)} leaked, {lost}{given_up}"
    return f"{body.title}: {WORDS[body.verdict]}: {counts}; up for {_lasted(body)}{_used(body)}"


def lines(body: Certificate) -> Iterator[str]:
    """Leaks with their price, losses, what was given up; at most `LINES` of each kind."""
    for each in body.leaks[:LINES]:
        yield f"leaked: {each['kind']} {each['what']}: {each['why']}{_bytes(each['size'])}; {_price(each['price'])}"
    if body.leaks:
        total, unpriced = price(body.leaks)
        more = f", and {unpriced} without a price that anybody told" if unpriced else ""
        yield f"all leaks: {total:g} a day{more}"
    yield from (f"lost or not proven: {each}" for each in body.losses[:LINES])
    for each in body.given_up[:LINES]:
        what = "what was not saved" if each["entries"] is None else f"{each['entries']} entries, {each['bytes']} bytes"
        yield f"given up: {each['cluster']}: {what}, by {each['by']}: {each['because']}"
    yield from (f"not ours: {each}" for each in body.others[:LINES])
    yield from (f"missing: {each['what']} {each['path']}" for each in body.kept if not each["there"])


def _lasted(body: Certificate) -> str:
    try:
        lasted = dt.datetime.fromisoformat(body.closed) - dt.datetime.fromisoformat(body.opened)
    except (ValueError, TypeError):
        return "an unknown time"
    seconds = max(0, int(lasted.total_seconds()))
    days, hours, minutes = seconds // 86_400, seconds // 3_600 % 24, seconds // 60 % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (seconds % 60, "s")]
    return " ".join([f"{count}{unit}" for count, unit in parts if count][:2]) or "0s"


def _used(body: Certificate) -> str:
    if not body.usage:
        return "" if body.subject == "stack" else "; nobody noted what it used"
    told = body.usage
    guessed = f" ({told['assumed']:g} ends assumed)" if told.get("assumed") else ""
    hours = f"{told['cpu_hours']:.2f} CPU-hours, {told['gpu_hours']:.2f} GPU-hours"
    return f"; {hours}, cost {told['cost']:.2f}{guessed}"


def _price(price: float | None) -> str:
    return "nobody told its price" if price is None else f"{price:g} a day"


def _bytes(size: int) -> str:
    return f" ({size} bytes)" if size else ""
