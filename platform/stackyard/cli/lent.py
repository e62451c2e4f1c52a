"""The leased clusters of a stack as `stackyard status` shows them: until when, how much of them is safe, what runs."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stackyard.cli import observe
from stackyard.cli.stack import ProcessCard, StackCard
from stackyard.leasing import seeding, verbs
from stackyard.spec.units import duration_text

Cluster = dict[str, Any]


def facts(card: StackCard, now: dt.datetime | None = None) -> list[Cluster]:
    """Each cluster that lies in the stack's folder, as plain data; what cannot be read of it is among its troubles."""
    folders = [each.parent for each in sorted(Path(card.state).glob("leases/*/instance.json"))]
    if not folders:
        return []
    wanted = {folder: _processes(card, folder) for folder in folders}
    everyone = [each for found in wanted.values() for each in found]
    running = {each["name"]: each for each in observe.processes(card.model_copy(update={"processes": everyone}))}
    now = now or dt.datetime.now(dt.UTC)
    return [_one(card, folder, [running[each.name] for each in wanted[folder]], now) for folder in folders]


def problems(clusters: list[Cluster]) -> list[dict[str, str]]:
    """What is unhealthy of them, and where to read more."""
    return [
        {"what": f"cluster {each['name']}: {what}", "log": log} for each in clusters for what, log in _problems(each)
    ]


def render(clusters: list[Cluster]) -> RenderableType:
    """A table, and a line for each that stands still."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("cluster", "state", "owner", "ends (UTC)", "left", "safe is what is older than", "notebook"):
        table.add_column(heading, header_style="dim", overflow="fold")
    for each in clusters:
        table.add_row(
            each["name"],
            Text(each["state"], "green" if each["state"] == "open" else "yellow"),
            each["owner"] or "",
            "" if each["ends"] is None else each["ends"][:16].replace("T", " "),
            _left(each["left"]),
            Text(_safe(each), "bold red" if each["late"] else ""),
            f"{each['notebook']}/lab" if each["notebook"] and each["state"] == "open" else "",
        )
    stopped = [
        Text(f"cluster {each['name']} is suspended ({each['suspended']['reason']}): {each['suspended']['because']}")
        for each in clusters
        if each["suspended"]
    ]
    rehearsed = [
        Text(f"cluster {cluster['name']}: {each['scenario']} rehearsed {each['at']}, {_held(each)}")
        for cluster in clusters
        for each in cluster["rehearsals"][:1]
    ]
    return Group(table, *stopped, *rehearsed)


def _one(card: StackCard, folder: Path, processes: list[dict[str, Any]], now: dt.datetime) -> Cluster:
    _, told = verbs.status(folder)
    lease = _object(folder / "lease.json")
    safe = told["safe_until"]
    return {
        "name": folder.name,
        "owner": told["owner"],
        "state": told["state"],
        "suspended": told["suspended"],
        "ends": told["ends"],
        "ends_by": told["ends_by"],
        "left": told["left"],
        "wants": told["decision"],
        "every": lease.get("every"),
        "safe_until": safe,
        "age": None if safe is None else round((now - dt.datetime.fromisoformat(safe)).total_seconds(), 1),
        "late": told["late"],
        "troubles": told["troubles"],
        "notebook": lease.get("notebook"),
        "workspace": str(folder / "workspace"),
        "waits_for_data": _waits(card, folder),
        "rehearsals": _rehearsals(folder),
        "processes": processes if told["state"] == "open" else [],
    }


def _problems(cluster: Cluster) -> Iterator[tuple[str, str]]:
    logs = {process["name"]: process["log"] for process in cluster["processes"]}
    saver = next((log for name, log in logs.items() if name.endswith("-saver")), "")
    if cluster["late"]:
        every = duration_text(cluster["every"])
        if cluster["age"] is None:
            yield f"nothing of it was ever saved, and that is wanted every {every}", saver
        else:
            yield (
                f"nothing is safe that is newer than {_about(cluster['age'])}, and saving is wanted every {every}",
                saver,
            )
    for process in cluster["processes"]:
        if process["state"] != "running":
            yield f"process {process['name']} is {process['state']}", process["log"]
    if cluster["suspended"] and not cluster["suspended"]["whole"]:
        yield "it was suspended with work that is not saved; its workspace is kept", ""
    if cluster["waits_for_data"].get("failed"):
        told = cluster["waits_for_data"]
        yield f"the project's code and data could not be put into it: {told['failed']}", told["log"]
    for each in cluster["rehearsals"]:
        if not each["held"]:
            yield f"the rehearsal of {each['scenario']} at {each['at']} missed its objective: {each['missed']}", ""
    for trouble in cluster["troubles"]:
        yield trouble, ""


def _processes(card: StackCard, folder: Path) -> list[ProcessCard]:
    try:
        told = json.loads((folder / "processes.json").read_bytes())
        names = [str(each["name"]) for each in told]
    except (OSError, ValueError, TypeError, KeyError):
        return []
    return [ProcessCard(name=name, log=str(Path(card.state) / "logs" / f"{name}.log")) for name in names]


def _waits(card: StackCard, folder: Path) -> dict[str, str]:
    """Whether the project's code and data are still to come, and why they did not."""
    if not seeding.wanted(folder):
        return {}
    log = Path(card.state) / "logs" / f"lease-{folder.name}-seeding.log"
    try:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
    except OSError:
        last = []
    return {"log": str(log), **({"failed": last[0]} if last else {})}


def _rehearsals(folder: Path) -> list[dict[str, Any]]:
    """The last of each kind, the newest first."""
    last = _object(folder / "rehearsals.json").get("last")
    found: list[dict[str, Any]] = []
    for each in last.values() if isinstance(last, dict) else ():
        missed = [f"{c['name']} {c['found']}" for c in each.get("checks", ()) if not c.get("held")]
        told = {name: each.get(name) for name in ("scenario", "at", "held", "measured")}
        found.append({**told, "missed": ", ".join(missed)})
    return sorted(found, key=lambda each: str(each["at"]), reverse=True)


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _safe(cluster: Cluster) -> str:
    if cluster["age"] is None:
        return "nothing was saved yet"
    every = "" if cluster["every"] is None else f" (saved every {duration_text(cluster['every'])})"
    return f"{_about(cluster['age'])}{every}"


def _held(rehearsal: dict[str, Any]) -> str:
    return "objective held" if rehearsal["held"] else f"objective missed ({rehearsal['missed']})"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else "over" if seconds <= 0 else _about(seconds)


def _about(seconds: float) -> str:
    """A duration by its largest unit: 3d, 5h, 12m, 40s."""
    for unit, letter in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= unit:
            return f"{seconds // unit:.0f}{letter}"
    return f"{max(seconds, 0.0):.0f}s"
