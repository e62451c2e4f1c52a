"""Verbs of leased clusters, and their options."""

from __future__ import annotations

from typing import Annotated

import typer

from stackyard.cli.app import JsonOption, StackOption, app


@app.command()
def restore(
    what: Annotated[str, typer.Argument(metavar="RECEIPT|VERSION|latest", help="As `destroy` printed it, or 7, v7.")],
    to: Annotated[str, typer.Option("--to", metavar="CLUSTER", help="The cluster into whose workspace it comes.")],
    stack: StackOption = "local",
    from_: Annotated[
        str | None, typer.Option("--from", metavar="STACK", help="The stack that saved it. Absent: the only one.")
    ] = None,
    of: Annotated[
        str | None,
        typer.Option("--of", metavar="CLUSTER", help="The cluster it was of. Absent: the same name, or the only one."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Bring a saved workspace, of this stack or another, into a cluster in which nobody worked yet.

    Content, permissions and times are as they were. Exit codes: 0 all is there; 1 refused (somebody's work is there),
    failed, or damaged in the store (all else came, and what did not is listed); 2 it is not clear what is meant;
    4 another restore into it runs.
    """
    from stackyard.cli import restore as verb

    verb.run(what, stack, to, from_=from_, of=of, as_json=as_json)


@app.command()
def rehearse(
    scenario: Annotated[
        str, typer.Argument(metavar="preemption|head-loss|store-outage|lease-end", help="What is to happen.")
    ],
    stack: StackOption = "local",
    cluster: Annotated[str | None, typer.Option("--cluster", help="Which cluster. Absent: the only one.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Also while somebody else works on it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Do it for real to a training of its own on a leased cluster, and hold what it cost to `clusters.*.rehearsal`.

    Exit codes: 0 held; 1 missed, or it could not be done; 2 it is not clear what is meant; 4 somebody works there.
    Ended anyhow, it leaves nothing broken: the store comes back, and the next rehearsal takes its training away.
    """
    from stackyard.cli import rehearse as verb

    verb.run(scenario, stack, cluster, yes=yes, as_json=as_json)
