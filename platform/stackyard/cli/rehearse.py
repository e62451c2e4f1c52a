"""`stackyard rehearse`: a fault, for real, on a leased cluster of this stack, held to what its spec allows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import cast

from rich.console import Console
from rich.table import Table

from stackyard.cli import stack as stacks
from stackyard.cli.failures import BUSY, FAILED, USAGE, Failure
from stackyard.cli.sources import lent
from stackyard.rehearsals.cluster import Cluster
from stackyard.rehearsals.faults import FAULTS
from stackyard.rehearsals.judging import Scenario
from stackyard.rehearsals.running import BusyError, RehearsalError, Rehearsed, rehearse
from stackyard.spec.leases import RehearsalSpec


def run(scenario: str, stack: str, name: str | None, *, yes: bool, as_json: bool) -> None:
    """Rehearse it and say what it cost. Raises Failure: 1 missed or failed, 2 no such thing, 4 somebody works there."""
    if scenario not in FAULTS:
        raise Failure(f"there is no rehearsal {scenario}; there are {', '.join(FAULTS)}", USAGE)
    cluster = _cluster(stack, name)
    told = (cluster.facts.get("rehearsal") or {}).items()
    # It was validated as it was written, with its units; here are seconds and bytes.
    objective = RehearsalSpec.model_construct(**{k: v for k, v in told if k in RehearsalSpec.model_fields})
    try:
        found = rehearse(cluster, cast("Scenario", scenario), objective, yes=yes, say=_say)
    except BusyError as error:
        raise Failure(str(error), BUSY) from None
    except RehearsalError as error:
        raise Failure(str(error)) from None
    if as_json:
        print(json.dumps({"stack": stack, "cluster": cluster.settings.cluster, **found.plain()}))
    else:
        _show(found)
    if not found.held:
        missed = ", ".join(f"{each.name} {each.found} ({each.limit})" for each in found.checks if not each.held)
        raise Failure(f"{scenario} missed clusters.{cluster.settings.cluster}.rehearsal: {missed}", FAILED)


def _cluster(stack: str, name: str | None) -> Cluster:
    checkout = stacks.checkout()
    lease = sorted(path.parent.name for path in checkout.glob(f".stackyard/{stack}/leases/*/lease.json"))
    if name is None and len(lease) > 1:
        raise Failure(f"stack {stack} lends {', '.join(lease)}: say which, --cluster {lease[0]}", USAGE)
    settings = lent(checkout, stack, name or (lease[0] if lease else "?"))
    folder = settings.workspace.parent
    if (folder / "suspended.json").exists() and not (folder / "rehearsing.json").exists():
        raise Failure(f"cluster {settings.cluster} is suspended: `stackyard lease resume {settings.cluster}` starts it")
    try:
        facts = json.loads((folder / "lease.json").read_text())
        record = json.loads((folder / "instance.json").read_text())
    except (OSError, ValueError):
        raise Failure(f"what cluster {settings.cluster} is, is not known: `pulumi up -s {stack}`") from None
    if record.get("sealed"):
        raise Failure(f"cluster {settings.cluster} is sealed: `pulumi up -s {stack}` opens it")
    return Cluster(Path(folder), settings, facts)


def _say(sentence: str) -> None:
    print(f"rehearse: {sentence}", file=sys.stderr, flush=True)


def _show(found: Rehearsed) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in (found.scenario, "", "allowed", ""):
        table.add_column(heading, header_style="dim")
    for each in found.checks:
        table.add_row(each.name, each.found, each.limit or "not judged", "held" if each.held else "MISSED")
    console = Console(highlight=False, markup=False)
    console.print(table)
    notes = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in found.notes.items() if value is not None)
    console.print(f"at step {found.measured.steps_before}; {notes}", soft_wrap=True)
