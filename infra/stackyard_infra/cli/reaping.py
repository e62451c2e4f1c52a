"""`stackyard reap`: what the controller does at every look, for cron: what is over is saved and suspended.

It needs neither the program nor Pulumi's state; `--orphans` and `--destroy` ask for it, and do nothing where it does
not answer. Exit codes: 0 all is as it should be, 1 something failed, 3 there is no such stack, 4 somebody else is at
it, 5 the lease forbids it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from stackyard.spec import SpecError
from stackyard_infra.cli.backends import Backends, Unanswered
from stackyard_infra.cli.checkouts import checkout_of, refuse_unknown, stacks, workspaces
from stackyard_infra.cli.orphans import Orphans
from stackyard_infra.provider import standing
from stackyard_infra.provider.daemon import surroundings
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.workspaces import Workspace

DONE, FAILED, USAGE, INVALID_SPEC, BUSY = 0, 1, 2, 3, 4
Plain = dict[str, Any]


def reap(
    stack: Annotated[str | None, typer.Option("--stack", "-s", help="One stack alone; without it every one.")] = None,
    orphans: Annotated[bool, typer.Option("--orphans", help="Also clusters whose stack no longer exists.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Take orphans away, each after a receipt.")] = False,
    destroy: Annotated[
        bool, typer.Option("--destroy", help="Also destroy stacks of which every cluster is past its lease.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, for machines.")] = False,
) -> None:
    """Save and suspend leased clusters that are past their lease, idle, or out of hours or money. For cron."""
    if yes and not orphans:
        _say("--yes goes with --orphans")
        raise typer.Exit(USAGE)
    try:
        checkout = checkout_of(Path.cwd())
        if stack and not orphans:  # those have no file any more
            refuse_unknown(stack, checkout)
        chosen = [stack] if stack else stacks(checkout)
        told: Plain = {"stacks": [_looked_at(each, checkout) for each in chosen]}
        if destroy:
            told["destroyed"] = [found for each in chosen if (found := _destroyed(each, checkout)) is not None]
        if orphans:
            told["orphans"] = Orphans(checkout, stack).reap(remove=yes)
    except (Refusal, SpecError) as refusal:
        _say(str(refusal))
        raise typer.Exit(INVALID_SPEC if isinstance(refusal, SpecError) else FAILED) from None
    if as_json:
        print(json.dumps(told, indent=2))
    else:
        print("\n".join(_lines(told)) or "no leased clusters")
    raise typer.Exit(_code(told))


def _looked_at(stack: str, checkout: Path) -> Plain:
    """One look at every cluster of a stack, by the platform; the virtual clock, if any, each lease names."""
    try:
        here = list(workspaces(stack, checkout))
    except Refusal as refusal:
        return {"stack": stack, "code": FAILED, "clusters": [], "failed": str(refusal)}
    if not here:
        return {"stack": stack, "code": DONE, "clusters": []}
    command = [*standing.MODULE, "reap", *(str(each.folder) for each in here), f"--stack-id={here[0].site.stack_id}"]
    done = subprocess.run(
        [*command, "--json"], env=surroundings(os.environ) | {"PYTHONSAFEPATH": "1"}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    try:
        found = json.loads(done.stdout.strip().splitlines()[-1])["clusters"]
    except (ValueError, LookupError, TypeError):
        return {"stack": stack, "code": FAILED, "clusters": [], "failed": f"reap ended with {done.returncode}"}
    return {"stack": stack, "code": done.returncode, "clusters": found}


def _destroyed(stack: str, checkout: Path) -> Plain | None:
    """Run the stack's own destroy, if every one of its clusters is past its lease; None where one is not."""
    said: Plain = {"stack": stack, "did": [], "failed": None}
    try:
        here = list(workspaces(stack, checkout))
        if not here or not all(_over(each) for each in here):
            return None
    except Refusal as refusal:
        return said | {"failed": str(refusal)}
    backend = here[0].lease().get("backend")
    try:
        if not Backends(checkout).exists(backend, stack):
            return said | {"failed": f"{backend} knows no stack {stack}: `stackyard reap --orphans` looks after those"}
    except Unanswered as reason:
        return said | {"failed": f"its state is not reached: {reason}"}
    down = ["sh", "tools/machine.sh", "down", "--stack", stack]
    done = subprocess.run(down, cwd=checkout, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        return said | {"failed": f"its destroy ended with {done.returncode}; what it said is above"}
    return said | {"did": ["destroyed"]}


def _over(here: Workspace) -> bool:
    """Whether its lease is over. Raises Refusal where that is in doubt: a clock that was set ends nothing early."""
    told = standing.standing(here.folder)
    if standing.is_over(told) and (doubts := told.get("troubles")):
        raise Refusal(f"Whether the lease of {here.cluster} is over is in doubt, so nothing is destroyed: {doubts[0]}.")
    return standing.is_over(told)


def _code(told: Plain) -> int:
    codes = {each["code"] for each in told["stacks"]}
    failed = [each["failed"] for part in ("destroyed", "orphans") for each in told.get(part, ())]
    if any(failed) or FAILED in codes:
        return FAILED
    return max(codes, default=DONE)


def _lines(told: Plain) -> list[str]:
    lines = []
    for stack in told["stacks"]:
        lines += [f"{stack['stack']}: {stack['failed']}"] if stack.get("failed") else []
        for each in stack["clusters"]:
            did = ", ".join(each["did"]) or each.get("state") or each["outcome"]
            lines.append(f"{stack['stack']}/{each['cluster']}: {did}; {each['failed'] or each['because']}")
    for each in told.get("destroyed", ()):
        lines.append(f"{each['stack']}: {each['failed'] or ', '.join(each['did'])}")
    for each in told.get("orphans", ()):
        what = ", ".join([each["found"], *each["did"]])
        why = f"{each['because']}; {each['failed']}" if each["failed"] else each["because"]
        lines.append(f"{each['folder']}: {what}; {why}")
    return lines


def _say(sentence: str) -> None:
    print(f"stackyard: {sentence}", file=sys.stderr)
