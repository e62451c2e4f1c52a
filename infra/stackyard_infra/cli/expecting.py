"""What `plan` says of the clusters that a stack lends: until when, in which hours, for how much, and its ceiling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from stackyard.spec import StackSpec
from stackyard.spec.units import duration_text
from stackyard_infra.cli.calendar import ONE_DISK, hours_text
from stackyard_infra.manifests.places import Places
from stackyard_infra.provider.ceilings import Ceiling, Size, places_folder

Plain = dict[str, Any]


def expected(spec: StackSpec) -> list[Plain]:
    """What `plan` says of each cluster, as plain data."""
    places = Places.of(spec)
    same_disk = "://" not in str(places.store) and _disk(places.store) == _disk(places.state)
    found = []
    for name, cluster in spec.environment.clusters.items():
        end = None if cluster.lease.end is None else cluster.lease.end.isoformat()
        terms = {"end": end, "ttl": cluster.lease.ttl, "idle": cluster.lease.idle, "every": cluster.save.every}
        terms |= cluster.lease.model_dump(mode="json", include={"hours"})
        terms["budget"] = cluster.budget.model_dump(mode="json")
        found.append({"cluster": name, "owner": cluster.owner, **terms, "same_disk": same_disk})
    return found


def ceiling(spec: StackSpec) -> Plain | None:
    """What this stack's clusters ask for under the ceiling, and what this user's others here have; None without any."""
    if not spec.environment.clusters:
        return None
    places = Places.of(spec)
    sizes = [Size(each.workers, each.cpus, each.gpus).figures() for each in spec.environment.clusters.values()]
    return {
        "most": spec.environment.ceiling.model_dump(mode="json"),
        "asked": {figure: sum(size[figure] for size in sizes) for figure in ("clusters", "cpus", "gpus")},
        "others": Ceiling({}, places_folder()).used(without=f"{places.stack_id}-"),
    }


def show(console: Console, clusters: list[Plain], under: Plain | None) -> None:
    """The same for people, a line a cluster, and one for the ceiling."""
    for each in clusters:
        until = f"until {each['end']}, " if each["end"] else ""
        line = f"cluster {each['cluster']}: lent {until}for {duration_text(each['ttl'])} at the most"
        if each["hours"] is not None:
            line += f", {hours_text(each['hours'])}"
        if each["budget"]["money"] is not None:
            line += f", for {each['budget']['money']:g} at the most ({each['budget']['hourly_price']:g} an hour)"
        line += f", saved every {duration_text(each['every'])}"
        if each["same_disk"]:
            line += f"; {ONE_DISK}"
        console.print(line, soft_wrap=True)
    if under is not None:
        console.print(_under(under), soft_wrap=True)


def _under(under: Plain) -> str:
    """The ceiling on one line; what would pass it is refused when it is opened."""
    told, over = [], []
    for figure, most in under["most"].items():
        asked, others = under["asked"][figure], under["others"][figure]
        if most is not None:
            told.append(f"{figure} {asked} here, {others} elsewhere, at most {most}")
            over += [figure] if asked + others > most else []
    line = f"ceiling: {'; '.join(told) or 'none'}"
    return f"{line}; too many {' and '.join(over)}: not all of them can be open at once" if over else line


def _disk(path: Path) -> int:
    """The device on which `path` lies, or will lie."""
    return next(each.stat().st_dev for each in (path, *path.parents) if each.exists())
