"""`stackyard plan`: is the spec sound, is the data, what will run, will it fit this machine, can a rollout conclude."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import psutil
import typer
from rich.console import Console
from rich.table import Table

from stackyard.spec import SpecError, StackSpec, check_leases, find_stack, load
from stackyard_infra import capacity
from stackyard_infra.cli import expecting, stages
from stackyard_infra.manifests.places import Places
from stackyard_infra.moment import extended, now
from stackyard_infra.provider import tagged

FAILED, INVALID_SPEC = 1, 3


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("plan")(plan)


def plan(
    stack: Annotated[str, typer.Option("--stack", "-s", help="The stack, a file stacks/<stack>.yaml.")] = "local",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, for machines.")] = False,
    data: Annotated[bool, typer.Option(help="Also read the data and check every row.")] = True,
) -> None:
    """Is the spec sound, is the data, what will run, and will it fit this machine. Changes nothing."""
    try:
        spec = load(find_stack(stack, Path.cwd()))
        check_leases(spec, now(spec), extended(spec))
    except SpecError as error:
        _end(str(error), INVALID_SPEC)
    facts = facts_of(spec, this_machine(spec.checkout, Places.of(spec).stack_id))
    facts["rollout"] = stages.forecast(spec)
    facts["clusters"], facts["ceiling"] = expecting.expected(spec), expecting.ceiling(spec)
    if not as_json:
        _show(facts)
    if data:
        facts["data"] = _data(spec, stack, as_json=as_json)
    if as_json:
        print(json.dumps(facts, indent=2))
    if slow := stages.refusals(spec, facts["rollout"]):
        _end("\n".join(map(str, slow)), INVALID_SPEC)
    if facts["shortages"]:
        _end("stackyard: it will not fit. " + "\n".join(facts["shortages"]), FAILED)
    if data and facts["data"] is None:
        _end("stackyard: the data or the features are not as the spec says", FAILED)


def facts_of(spec: StackSpec, machine: capacity.Machine) -> dict[str, Any]:
    """What will run on `machine`, as plain data."""
    needs = capacity.local_needs(spec.project, spec.environment.clusters)
    return {
        "stack": spec.name,
        "target": spec.environment.target,
        "project": spec.project.name,
        "runs": [vars(need) for need in needs],
        "machine": vars(machine),
        "shortages": [shortage.sentence for shortage in capacity.shortages(needs, machine)],
    }


def this_machine(folder: Path, stack_id: str) -> capacity.Machine:
    """What this machine has for a stack: what it uses already counts as free. Disk where `folder` lies."""
    shm = os.statvfs("/dev/shm") if Path("/dev/shm").is_dir() else None
    return capacity.Machine(
        cpus=len(os.sched_getaffinity(0)),
        memory_available=psutil.virtual_memory().available + _used_by(stack_id),
        disk_available=shutil.disk_usage(folder).free,
        shm=0 if shm is None else shm.f_frsize * shm.f_blocks,
    )


def _used_by(stack_id: str) -> int:
    used = 0
    for process in tagged.find(stack_id):
        with contextlib.suppress(psutil.Error):
            memory = process.memory_info()
            used += memory.rss - memory.shared  # shared pages would be counted once for each that maps them
    return used


def _data(spec: StackSpec, stack: str, *, as_json: bool) -> dict[str, Any] | None:
    """What the platform's own check says, run as a process; None when it found something wrong, which it then told."""
    if away := [name for name in spec.project.data.source.secrets if name not in os.environ]:
        note = f"not read here, since the source needs {', '.join(away)}; each run checks it before its cluster starts"
        print(f"data: {note}", file=sys.stderr)
        return {"skipped": note}
    command = [str(Path(sys.executable).parent / "stackyard"), "data", "check", "-s", stack]
    done = subprocess.run(
        [*command, "--json"] if as_json else command,
        cwd=spec.checkout,
        stdout=subprocess.PIPE if as_json else None,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        return None
    return json.loads(done.stdout) if as_json else {}


def _show(facts: dict[str, Any]) -> None:
    console = Console(highlight=False)
    console.print(f"project {facts['project']}, stack {facts['stack']}, target {facts['target']}")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("what will run", "", "memory, at most"):
        table.add_column(heading, header_style="dim")
    for need in facts["runs"]:
        passing = "" if need["lasting"] else ", for a while"
        table.add_row(need["name"], need["what"], f"{need['memory'] // capacity.MIB} MiB{passing}")
    console.print(table)
    machine = facts["machine"]
    console.print(
        f"this machine: {machine['cpus']} CPUs, {machine['memory_available'] / capacity.GIB:.1f} GiB memory free, "
        f"{machine['disk_available'] / capacity.GIB:.0f} GiB disk free",
        soft_wrap=True,
    )
    stages.show(console, facts["rollout"])
    expecting.show(console, facts["clusters"], facts["ceiling"])


def _end(sentence: str, code: int) -> NoReturn:
    print(sentence, file=sys.stderr)
    raise typer.Exit(code)
