"""`stackyard plan`: is the spec sound, is the data, what will run, and will it fit this machine."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console
from rich.table import Table
from stackyard.cli.app import JsonOption, StackOption
from stackyard.cli.failures import Failure
from stackyard.cli.stack import checkout, spec

from stackyard_infra import capacity


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("plan")(plan)


def plan(
    stack: StackOption = "local",
    as_json: JsonOption = False,
    data: Annotated[bool, typer.Option(help="Also read the data and check every row.")] = True,
) -> None:
    """Is the spec sound, is the data, what will run, and will it fit this machine. Changes nothing."""
    found = spec(stack)
    facts: dict[str, Any] = {"stack": stack, "target": found.environment.target, "project": found.project.name}
    needs = capacity.local_needs(found.project)
    machine = this_machine(checkout())
    facts["runs"] = [vars(need) for need in needs]
    facts["machine"] = vars(machine)
    facts["shortages"] = [shortage.sentence for shortage in capacity.shortages(needs, machine)]
    facts["data"] = _data(found) if data else None
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        _show(facts, needs)
    if facts["shortages"]:
        raise Failure("it will not fit: " + "; ".join(facts["shortages"]))
    if facts["data"] and facts["data"]["violations"]:
        raise Failure(f"the data breaks {len(facts['data']['violations'])} rules of the spec")


def this_machine(folder: Path) -> capacity.Machine:
    """What this machine has; disk where `folder` lies."""
    shm = os.statvfs("/dev/shm") if Path("/dev/shm").is_dir() else None
    return capacity.Machine(
        cpus=len(os.sched_getaffinity(0)),
        memory_available=psutil.virtual_memory().available,
        disk_available=shutil.disk_usage(folder).free,
        shm=0 if shm is None else shm.f_frsize * shm.f_blocks,
    )


def _data(found: Any) -> dict[str, Any]:
    from stackyard.data import checks, sources
    from stackyard.data.problems import DataError

    started = time.perf_counter()
    try:
        frame = sources.read(found.project.data, found.project_folder, None)
    except DataError as error:
        raise Failure(str(error)) from None
    violations = checks.violations(frame, found.project.data)
    return {
        "rows": frame.height,
        "columns": frame.width,
        "seconds": round(time.perf_counter() - started, 2),
        "violations": [vars(violation) for violation in violations],
        "table": violations,
    }


def _show(facts: dict[str, Any], needs: list[capacity.Need]) -> None:
    console = Console(highlight=False)
    console.print(f"project {facts['project']}, stack {facts['stack']}, target {facts['target']}")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("what will run", "", "memory, at most"):
        table.add_column(heading, header_style="dim")
    for need in needs:
        table.add_row(need.name, need.what, f"{need.memory // capacity.MIB} MiB" + ("" if need.lasting else ", for a while"))
    console.print(table)
    machine = facts["machine"]
    console.print(
        f"this machine: {machine['cpus']} CPUs, {machine['memory_available'] / capacity.GIB:.1f} GiB memory free, "
        f"{machine['disk_available'] / capacity.GIB:.0f} GiB disk free"
    )
    if facts["data"]:
        console.print(
            f"data: {facts['data']['rows']} rows, {facts['data']['columns']} columns, read in {facts['data']['seconds']} s"
        )
