"""`stackyard lease` and `stackyard evacuate`: what ends when, what is not saved yet, and giving it up on purpose.

Neither asks Pulumi or the program: all they need lies beside each workspace.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from stackyard.spec import StackSpec
from stackyard.spec.units import duration_text
from stackyard_infra.manifests.places import Places
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.evacuation import Evacuation
from stackyard_infra.provider.site import Site
from stackyard_infra.provider.workspaces import Workspace

FAILED, USAGE = 1, 2
ONE_DISK = "store and workspace are on one disk: if it breaks, both are lost"
StackOption = Annotated[str, typer.Option("--stack", "-s", help="The stack, a file stacks/<stack>.yaml.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, for machines.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command("lease")(lease)
    app.command("evacuate")(evacuate)


def lease(stack: StackOption = "local", as_json: JsonOption = False) -> None:
    """What ends when, who is told, and what is not saved yet. Changes nothing."""
    now = dt.datetime.now(dt.UTC)
    try:
        clusters = [facts_of(here, now) for here in workspaces(stack, Path.cwd())]
    except Refusal as refusal:
        _end(str(refusal), FAILED)
    if as_json:
        print(json.dumps({"stack": stack, "clusters": clusters}, indent=2))
    elif not clusters:
        print(f"stack {stack} has no leased clusters")
    else:
        _show(clusters)


def evacuate(
    cluster: Annotated[str, typer.Argument(help="The leased cluster.")],
    stack: StackOption = "local",
    discard: Annotated[bool, typer.Option("--discard", help="Save nothing: choose to lose what is not saved.")] = False,
    because: Annotated[str | None, typer.Option("--because", help="Why it may be lost; others will read it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Save CLUSTER to the last byte, prove it and seal it, or choose to lose it; the next `up` opens a sealed one."""
    if discard != bool(because):
        _end("--discard and --because go together: what is lost on purpose has a reason", USAGE)
    try:
        here = next((each for each in workspaces(stack, Path.cwd()) if each.cluster == cluster), None)
        if here is None:
            _end(f"stack {stack} has no leased cluster {cluster}; `stackyard lease -s {stack}` lists them", FAILED)
        evacuation = Evacuation(here.prepare())
        answer = evacuation.ask("discard", f"--because={because}") if discard else evacuation.ask("evacuate")
        if answer.yes and not discard:
            here.seal()
    except Refusal as refusal:
        _end(str(refusal), FAILED)
    if as_json:
        print(json.dumps(dict(answer.told), indent=2))
    elif answer.yes:
        print(f"{cluster}: {'may be lost' if discard else 'is safe and sealed; `up` opens it again'}")
    if not answer.yes:
        _end(f"{cluster} goes on as before:\n{answer.because()}", FAILED)


def expected(spec: StackSpec) -> list[dict[str, Any]]:
    """What `plan` says of the clusters that `spec` lends, as plain data."""
    places = Places.of(spec)
    same_disk = "://" not in str(places.store) and _disk(places.store) == _disk(places.state)
    found = []
    for name, cluster in spec.environment.clusters.items():
        end = None if cluster.lease.end is None else cluster.lease.end.isoformat()
        terms = {"end": end, "ttl": cluster.lease.ttl, "idle": cluster.lease.idle, "every": cluster.save.every}
        found.append({"cluster": name, "owner": cluster.owner, **terms, "same_disk": same_disk})
    return found


def show_expected(console: Console, clusters: list[dict[str, Any]]) -> None:
    """The same for people, a line a cluster."""
    for each in clusters:
        until = f"until {each['end']}, " if each["end"] else ""
        line = f"cluster {each['cluster']}: lent {until}for {duration_text(each['ttl'])} at the most"
        line += f", saved every {duration_text(each['every'])}"
        if each["same_disk"]:
            line += f"; {ONE_DISK}"
        console.print(line, soft_wrap=True)


def workspaces(stack: str, cwd: Path) -> Iterator[Workspace]:
    """Every leased cluster of `stack` that lies in this checkout, whatever the stack's file says of it now."""
    checkout = next((each for each in (cwd, *cwd.parents) if (each / "Pulumi.yaml").is_file()), None)
    if checkout is None:
        raise Refusal("There is no Pulumi.yaml here or above: run this inside the checkout.")
    state = checkout.resolve() / ".stackyard" / stack
    for settings in sorted(state.glob("leases/*/evacuation.json")):
        stack_id = json.loads(settings.read_text())["stack_id"]
        site = Site(stack, stack_id, state, Path(f"/tmp/sy-{os.getuid()}-{stack_id}"))
        yield Workspace(site, settings.parent.name)


def facts_of(here: Workspace, now: dt.datetime) -> dict[str, Any]:
    """When a cluster ends and what of it is safe, as plain data."""
    lease, record = here.lease(), here.record()
    end = ends(lease, record.opened if record else "")
    saved = Evacuation(here.prepare()).ask("status").told
    return {
        "cluster": here.cluster,
        "owner": lease.get("owner"),
        "ends": None if end is None else end.isoformat(),
        "left": None if end is None else (end - now).total_seconds(),
        "state": "sealed" if here.sealed() else "open",
        "unsaved": saved.get("unsaved_now"),
        "age": saved.get("age"),
        "late": saved.get("late"),
        "same_disk": saved.get("same_disk"),
        "store": saved.get("store"),
        "losses": saved.get("losses", []),
    }


def ends(lease: dict[str, Any], opened: str) -> dt.datetime | None:
    """The earlier of the end of the lease's last day and its time to live; None for one that was never opened."""
    terms, found = lease.get("lease") or {}, []
    if terms.get("end"):
        day = dt.date.fromisoformat(terms["end"])
        found.append(dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), dt.UTC))
    if terms.get("ttl") and opened:
        found.append(dt.datetime.fromisoformat(opened) + dt.timedelta(seconds=terms["ttl"]))
    return min(found, default=None)


def _show(clusters: list[dict[str, Any]]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("cluster", "", "told before", "ends (UTC)", "left", "not saved now", "safe until"):
        table.add_column(heading, header_style="dim")
    for each in clusters:
        end = "" if each["ends"] is None else each["ends"][:16].replace("T", " ")
        table.add_row(each["cluster"], each["state"], each["owner"] or "", end, *_words(each))
    console = Console(highlight=False, markup=False)
    console.print(table)
    for each in clusters:
        for sentence in _warnings(each):
            console.print(f"{each['cluster']}: {sentence}", soft_wrap=True)


def _words(facts: dict[str, Any]) -> list[str]:
    left, age, unsaved = facts["left"], facts["age"], facts["unsaved"]
    return [
        "" if left is None else "over" if left <= 0 else _about(left),
        "unknown" if unsaved is None else str(unsaved),
        "never" if age is None else f"{_about(age)} ago",
    ]


def _warnings(facts: dict[str, Any]) -> Iterator[str]:
    if facts["store"] == "away":
        yield "the store is away, so nothing is saved"
    elif facts["late"] and facts["state"] == "open":
        yield "nothing was saved for more than twice `save.every`"
    if facts["same_disk"]:
        yield ONE_DISK


def _about(seconds: float) -> str:
    """A duration by its largest unit: 3d, 5h, 12m, 40s."""
    for unit, letter in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= unit:
            return f"{seconds // unit:.0f}{letter}"
    return f"{seconds:.0f}s"


def _disk(path: Path) -> int:
    """The device on which `path` lies, or will lie."""
    return next(each.stat().st_dev for each in (path, *path.parents) if each.exists())


def _end(sentence: str, code: int) -> NoReturn:
    print(f"stackyard: {sentence}", file=sys.stderr)
    raise typer.Exit(code)
