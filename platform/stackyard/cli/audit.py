"""`stackyard audit`: the log of what was done to a model, and whether anybody changed it."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from stackyard.cli.failures import Failure
from stackyard.cli.stack import find, open_store
from stackyard.store import audit


def verify(stack: str, *, as_json: bool) -> None:
    """Walk the log and the Releases that seal it. Raises Failure at the first break."""
    card = find(stack)
    report = audit.verify(open_store(card), card.model, card.public_keys)
    if as_json:
        print(json.dumps(report.plain()))
    elif report.broken is None:
        head = "" if report.head is None else f", head {report.head.digest[:12]}"
        print(
            f"audit log of {card.model}: {report.entries} entries, unbroken{head}; "
            f"{report.releases} releases seal the first {report.sealed}"
        )
    if report.broken is not None:
        raise Failure(f"the audit log of {card.model} does not hold: {report.broken.reason}")


def show(stack: str, *, as_json: bool) -> None:
    """Print the log up to its end or its first break."""
    card = find(stack)
    found = audit.entries(open_store(card), card.model, card.public_keys)
    if as_json:
        print(json.dumps([entry.model_dump(mode="json") for entry in found], indent=2))
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("entry", "when", "who", "what", "why"):
        table.add_column(heading, header_style="dim", overflow="fold")
    for entry in found:
        table.add_row(str(entry.number), entry.at[:16], entry.who, entry.what, entry.why)
    Console().print(table)
