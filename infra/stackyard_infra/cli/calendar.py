"""The calendar of leased clusters, for people: a table, and a sentence for each thing that is worth one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from stackyard.spec.units import duration_text

ONE_DISK = "store and workspace are on one disk: if it breaks, both are lost"
Facts = Mapping[str, Any]
BY = {"end": "its last day", "ttl": "its time to live", "budget": "its budget"}


def show(clusters: list[dict[str, Any]]) -> None:
    """Print the table and the sentences."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("cluster", "", "told before", "ends (UTC)", "left", "not saved now", "safe until"):
        table.add_column(heading, header_style="dim")
    for each in clusters:
        table.add_row(each["cluster"], each["state"], each["owner"] or "", _minute(each["ends"]), *_words(each))
    console = Console(highlight=False, markup=False)
    console.print(table)
    for each in clusters:
        for sentence in sentences(each):
            console.print(f"{each['cluster']}: {sentence}", soft_wrap=True)


def sentences(facts: Facts) -> Iterator[str]:
    """What is worth a sentence: why it is suspended, what is ahead, how it is used, what it costs, what is wrong."""
    if facts["suspended"] is not None:
        whole = "" if facts["suspended"].get("whole", True) else "; not everything of it is saved"
        yield f"suspended: {facts['suspended'].get('because')}{whole}"
    elif (decision := facts["decision"]) is not None and decision["wants"] == "suspended":
        yield f"about to be suspended: {decision['because']}"
    yield from _ahead(facts)
    yield from _use(facts)
    if facts["store"] == "away":
        yield "the store is away, so nothing is saved"
    elif facts["late"] and facts["state"] == "open":
        yield "nothing was saved for more than twice `save.every`"
    if facts["same_disk"]:
        yield ONE_DISK
    yield from facts["troubles"] or ()


def next_warning(lease: Facts, end: dt.datetime | None, now: dt.datetime) -> str | None:
    """When its owner is warned next (ISO), or None where that is behind or there is no end."""
    before = (lease.get("lease") or {}).get("warn") or ()
    ahead = [] if end is None else [moment for each in before if (moment := end - dt.timedelta(seconds=each)) > now]
    return min(ahead).isoformat() if ahead else None


def hours_text(hours: Facts) -> str:
    """Working hours on one line."""
    return f"{', '.join(hours['days'])} {hours['span']} {hours['timezone']}"


def _ahead(facts: Facts) -> Iterator[str]:
    if facts["ends_by"] is not None and facts["state"] != "sealed":
        warned = f"; its owner is warned at {_minute(facts['next_warning'])} UTC" if facts["next_warning"] else ""
        yield f"it ends by {BY.get(facts['ends_by'], facts['ends_by'])}{warned}"
    if facts["hours"] is not None:
        yield f"runs {hours_text(facts['hours'])}"
    for each in facts["extensions"] or ():
        yield f"extended by {duration_text(each['seconds'])} ({each['by']}: {each['because']})"
    if facts["may_extend"]:
        yield 'may be extended: stackyard lease extend CLUSTER --for ... --because "..."'


def _use(facts: Facts) -> Iterator[str]:
    idle, money = facts["idle"] or {}, facts["money"] or {}
    for signal in idle.get("signals", ()):
        used = f", last used {_minute(signal['used'])}" if signal.get("used") else ""
        word = "in use" if signal.get("busy") else "idle" if signal.get("known") else "not known"
        yield f"{signal['name']}: {word}{used}; {signal['because']}"
    if idle.get("after") is not None:
        yield f"suspended when nobody uses it for {duration_text(idle['after'])}"
    if money.get("limit") is not None or money.get("cost"):
        limit = "" if money["limit"] is None else f" of {money['limit']:g}"
        yield f"cost {money['cost']:.2f}{limit} in {money['hours']:.1f} h"


def _words(facts: Facts) -> list[str]:
    left, age, unsaved = facts["left"], facts["age"], facts["unsaved"]
    return [
        "" if left is None else "over" if left <= 0 else about(left),
        "unknown" if unsaved is None else str(unsaved),
        "never" if age is None else f"{about(age)} ago",
    ]


def _minute(text: str | None) -> str:
    return "" if text is None else text[:16].replace("T", " ")


def about(seconds: float) -> str:
    """A duration by its largest unit: 3d, 5h, 12m, 40s."""
    for unit, letter in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= unit:
            return f"{seconds // unit:.0f}{letter}"
    return f"{seconds:.0f}s"
