"""`python -m stackyard_infra.suspending suspend|resume FOLDER`: end, or start again, the processes of one cluster.

What `lease.json` names for whoever looks after leases, who knows it only as a command. `suspend` ends all of them at
once, supervisor or not, and keeps workspace, record and tokens; it saves nothing. `resume` starts them again where the
cluster is open and nothing says that it is suspended. Neither needs the program, Pulumi or its state; both may be
repeated. Exit code 0 is done, 1 is not, with a sentence on standard error.
"""

from __future__ import annotations

import sys
from pathlib import Path

from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.evacuation import Evacuation
from stackyard_infra.provider.workspaces import Workspace

DONE, NOT_DONE, USAGE = 0, 1, 2


def suspend(here: Workspace) -> None:
    """End every process of the cluster at once. Raises Refusal for one that does not end, and where nothing says that
    it is suspended: while somebody else had it in hand, it was evacuated and opened again."""
    with here.held():
        if here.record() is not None and not here.sealed() and here.suspended() is None:
            raise Refusal(f"{here.cluster} is open, and nothing says that it is suspended.")
        here.end()


def resume(here: Workspace) -> None:
    """Start what the cluster consists of. Raises Refusal where it is not to run, or cannot."""
    with here.held():
        record, suspended = here.record(), here.suspended()
        if record is None or here.sealed():
            raise Refusal(f"{here.cluster} is sealed: the stack's next `up` opens it.")
        if suspended is not None:
            raise Refusal(f"{here.cluster} is suspended: {suspended.get('because', 'nobody says why')}.")
        if not here.supervised():
            raise Refusal(f"The stack's supervisor does not run: `up` starts it, and {here.cluster} with it.")
        if not here.sound():
            Evacuation(here.prepare()).ask("thaw")
        here.start()


def main(arguments: list[str]) -> int:
    """Run one of the two; returns the exit code."""
    verbs = {"suspend": suspend, "resume": resume}
    if len(arguments) != 2 or arguments[0] not in verbs:
        print("usage: python -m stackyard_infra.suspending suspend|resume FOLDER", file=sys.stderr)
        return USAGE
    try:
        verbs[arguments[0]](Workspace.at(Path(arguments[1])))
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return NOT_DONE
    return DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
