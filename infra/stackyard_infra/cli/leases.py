"""`stackyard lease` and `stackyard evacuate`: what ends when, what is not saved yet, and giving it up on purpose.

Neither asks Pulumi or the program: all they need lies beside each workspace. What a lease allows, and who ends it when,
the platform decides, asked as a process.
"""

from __future__ import annotations

import datetime as dt
import getpass
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from stackyard.spec import SpecError, units
from stackyard_infra.cli import calendar, reaping
from stackyard_infra.cli.checkouts import refuse_unknown, workspaces
from stackyard_infra.provider import standing
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.evacuation import Evacuation
from stackyard_infra.provider.workspaces import Workspace

FAILED, USAGE, INVALID_SPEC = 1, 2, 3
LOOKED_AT = ("ends_by", "decision", "extensions", "may_extend", "money", "idle", "warnings", "troubles")
"""Of what the platform says of a lease: what is passed on as it is."""
StackOption = Annotated[str, typer.Option("--stack", "-s", help="The stack, a file stacks/<stack>.yaml.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, for machines.")]


ClusterArgument = Annotated[str, typer.Argument(help="The leased cluster.")]
BecauseOption = Annotated[str, typer.Option("--because", help="The reason, which others will read.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    group = typer.Typer(help="What ends when, and what is not saved yet; extend, suspend, resume.")
    group.callback(invoke_without_command=True)(lease)
    for verb in (extend, suspend, resume):
        group.command()(verb)
    app.add_typer(group, name="lease")
    app.command("evacuate")(evacuate)
    app.command("reap")(reaping.reap)


def lease(context: typer.Context, stack: StackOption = "local", as_json: JsonOption = False) -> None:
    """What ends when, who is told, and what is not saved yet. Changes nothing."""
    if context.invoked_subcommand is not None:
        return
    now = dt.datetime.now(dt.UTC)
    try:
        refuse_unknown(stack, Path.cwd())
        clusters = [facts_of(here, now) for here in workspaces(stack, Path.cwd())]
    except SpecError as error:
        _end(str(error), INVALID_SPEC)
    except Refusal as refusal:
        _end(str(refusal), FAILED)
    if as_json:
        print(json.dumps({"stack": stack, "clusters": clusters}, indent=2))
    elif not clusters:
        print(f"stack {stack} has no leased clusters")
    else:
        calendar.show(clusters)


def extend(
    cluster: ClusterArgument,
    by: Annotated[str, typer.Option("--for", help="By how much its end moves: 7d, 12h.")],
    because: BecauseOption,
    stack: StackOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Have CLUSTER end later, as far as its lease allows; exit 5 where it does not."""
    try:
        seconds = units.seconds(by)
    except ValueError as error:
        _end(f"--for: {error}", USAGE)
    options = (f"--seconds={seconds}", f"--by={getpass.getuser()}", f"--because={because}")
    told = _asked(stack, cluster, "extend", *options, as_json=as_json)
    if not as_json:
        print(f"{cluster}: lent until {_minute(told.get('ends'))}")


def suspend(
    cluster: ClusterArgument, because: BecauseOption, stack: StackOption = "local", as_json: JsonOption = False
) -> None:
    """Save CLUSTER and end its processes; its workspace stays, and only a person starts it again."""
    _asked(stack, cluster, "suspend", f"--because={because}", as_json=as_json)
    if not as_json:
        print(f"{cluster}: suspended; `stackyard lease resume {cluster} -s {stack}` starts it again")


def resume(
    cluster: ClusterArgument, stack: StackOption = "local", because: BecauseOption = "a person asked for it",
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Start a suspended CLUSTER again, which counts as use; exit 5 where its lease is over."""
    _asked(stack, cluster, "resume", f"--by={getpass.getuser()}", f"--because={because}", as_json=as_json)
    if not as_json:
        print(f"{cluster}: runs")


def evacuate(
    cluster: ClusterArgument,
    stack: StackOption = "local",
    discard: Annotated[bool, typer.Option("--discard", help="Save nothing: choose to lose what is not saved.")] = False,
    because: Annotated[str | None, typer.Option("--because", help="Why it may be lost; others will read it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Save CLUSTER to the last byte, prove it and seal it, or choose to lose it; the next `up` opens a sealed one."""
    if discard != bool(because):
        _end("--discard and --because go together: what is lost on purpose has a reason", USAGE)
    try:
        here = _named(stack, cluster)
        if here.record() is None:
            _end(f"nobody knows which instance of {cluster} lives there: `up` adopts it, nothing of it is lost", FAILED)
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
        for each in answer.told.get("asked", []):
            if not each["answered"]:
                print(f"  training {each['name']} wrote no checkpoint when asked: it has that of step {each['saved']}")
    if not answer.yes:
        _end(f"{cluster} goes on as before:\n{answer.because()}", FAILED)


def facts_of(here: Workspace, now: dt.datetime) -> dict[str, Any]:
    """When a cluster ends, what is ahead of it and what of it is safe, as plain data."""
    lease, record = here.lease(), here.record()
    # One whose instance nobody knows would be made a new one, which is sealed: only `up` may do that.
    saved = {} if record is None else Evacuation(here.prepare()).ask("status").told
    _, told, _ = standing.ask(here.folder, "status", limit=standing.LIMIT)
    end = ends(lease, record.opened if record else "") if "ends" not in told else _moment(told["ends"])
    now = _moment(told.get("at")) or now
    suspended = here.suspended()
    return {
        "cluster": here.cluster,
        "owner": lease.get("owner"),
        "ends": None if end is None else end.isoformat(),
        "left": None if end is None else (end - now).total_seconds(),
        "state": "sealed" if here.sealed() else "open" if suspended is None else "suspended",
        "suspended": suspended,
        "unsaved": saved.get("unsaved_now"),
        "age": saved.get("age"),
        "late": saved.get("late"),
        "same_disk": saved.get("same_disk"),
        "store": saved.get("store"),
        "losses": saved.get("losses", []),
        "hours": (lease.get("lease") or {}).get("hours"),
        "next_warning": calendar.next_warning(lease, end, now),
        **{name: told.get(name) for name in LOOKED_AT},
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


def _named(stack: str, cluster: str) -> Workspace:
    found = next((each for each in workspaces(stack, Path.cwd()) if each.cluster == cluster), None)
    if found is None:
        _end(f"stack {stack} has no leased cluster {cluster}; `stackyard lease -s {stack}` lists them", FAILED)
    return found


def _asked(stack: str, cluster: str, verb: str, *options: str, as_json: bool) -> Mapping[str, Any]:
    """What the platform answers. Ends the command with its exit code where that is not 0."""
    try:
        code, told, said = standing.ask(_named(stack, cluster).folder, verb, *options)
    except Refusal as refusal:
        _end(str(refusal), FAILED)
    if as_json:
        print(json.dumps(dict(told), indent=2))
    if code != 0:
        _end(f"{cluster}: {told.get('reason') or said}", code)
    return told


def _moment(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text)


def _minute(text: str | None) -> str:
    return "nobody knows when" if text is None else f"{text[:16].replace('T', ' ')} UTC"


def _end(sentence: str, code: int) -> NoReturn:
    print(f"stackyard: {sentence}", file=sys.stderr)
    raise typer.Exit(code)
