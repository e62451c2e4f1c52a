"""`stackyard audit`: the log of what was done to a model or a leased cluster, and whether anybody changed it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from stackyard.cli.failures import Failure
from stackyard.cli.sources import sources
from stackyard.cli.stack import checkout, find, open_store
from stackyard.evacuation.auditing import log_of
from stackyard.store import audit
from stackyard.store.objects import Store


def verify(stack: str, cluster: str | None, *, as_json: bool) -> None:
    """Walk the log and the Releases that seal it; no Release seals that of a cluster. Raises Failure at a break."""
    store, name, keys, of = _log(stack, cluster)
    report = audit.verify(store, name, keys)
    if as_json:
        print(json.dumps(report.plain()))
    elif report.broken is None:
        head = "" if report.head is None else f", head {report.head.digest[:12]}"
        seals = f"; {report.releases} releases seal the first {report.sealed}" if cluster is None else ""
        print(f"audit log of {of}: {report.entries} entries, unbroken{head}{seals}")
    if report.broken is not None:
        raise Failure(f"the audit log of {of} does not hold: {report.broken.reason}")


def show(stack: str, cluster: str | None, *, as_json: bool) -> None:
    """Print the log up to its end or its first break."""
    store, name, keys, _ = _log(stack, cluster)
    found = audit.entries(store, name, keys)
    if as_json:
        print(json.dumps([entry.model_dump(mode="json") for entry in found], indent=2))
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("entry", "when", "who", "what", "why"):
        table.add_column(heading, header_style="dim", overflow="fold")
    for entry in found:
        table.add_row(str(entry.number), entry.at[:16], entry.who, entry.what, entry.why)
    Console().print(table)


def _log(stack: str, cluster: str | None) -> tuple[Store, str, Sequence[str], str]:
    """Store, name of the log, whom it trusts, and what people call it; that of a cluster is there after a destroy."""
    if cluster is None:
        card = find(stack)
        return open_store(card), card.model, card.public_keys, card.model
    source = next((each for each in sources(checkout()) if each.stack == stack), None)
    if source is None:
        raise Failure(f"stack {stack} never had a leased cluster here")
    return source.open(), log_of(cluster), source.trusted, f"cluster {cluster}"
