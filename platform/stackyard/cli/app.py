"""The verbs, their options, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="stackyard",
    help="From one typed spec: a training cluster, a serving cluster, and the loop between them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data = typer.Typer(help="Snapshots and checks of the project's data.", no_args_is_help=True)
app.add_typer(data, name="data")

StackOption = Annotated[str, typer.Option("--stack", "-s", help="The stack, a file stacks/<stack>.yaml.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, for machines.")]


@app.command()
def status(
    stack: StackOption = "local",
    as_json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep showing it, live, until Ctrl-C.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait, with progress, until a champion answers.")] = False,
) -> None:
    """What runs, what is live, what was decided and why, and what is unhealthy."""
    from stackyard.cli import status as verb

    verb.run(stack, as_json=as_json, watch=watch, wait=wait)


@app.command()
def score(
    file: Annotated[Path | None, typer.Argument(help="JSON lines, one row each; - for standard input.")] = None,
    stack: StackOption = "local",
    as_json: JsonOption = False,
    example: Annotated[int, typer.Option(help="Score this many sample rows of the champion instead.", min=0)] = 0,
    window: Annotated[
        str | None, typer.Option(help="Evaluate the champion on labelled rows: 2013-03-01:2013-04-01.")
    ] = None,
) -> None:
    """Ask the live service for predictions, or measure the champion on a window of labelled data."""
    from stackyard.cli import score as verb

    verb.run(file, stack, as_json=as_json, example=example, window=window)


@data.command("check")
def data_check(stack: StackOption = "local", as_json: JsonOption = False) -> None:
    """Read the window and check it against the spec's columns; exit 1 with a table of all violations."""
    from stackyard.cli import data as verb

    verb.check(stack, as_json=as_json)


@data.command("snapshots")
def data_snapshots(stack: StackOption = "local", as_json: JsonOption = False) -> None:
    """The snapshots in the store."""
    from stackyard.cli import data as verb

    verb.show(stack, as_json=as_json)
