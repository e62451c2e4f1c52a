"""`stackyard labels import`: truths from a file, taken as if they had been sent now."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from stackyard.cli.failures import Failure
from stackyard.cli.stack import find, open_store, spec
from stackyard.cli.wishes import now


def run(file: Path, stack: str, *, as_json: bool) -> None:
    """Take the labels of `file`; those that cannot be meant are told line by line. Raises Failure when there are."""
    from stackyard.monitoring.labels import LabelFileError, import_labels

    card = find(stack)
    try:
        found = import_labels(open_store(card), card.model, file, spec(stack).project.task, now(card))
    except (LabelFileError, OSError) as error:
        raise Failure(str(error)) from None
    if as_json:
        print(json.dumps(vars(found)))
    else:
        again = f", {found.known} of them known already" if found.known else ""
        print(f"{found.accepted} labels taken{again}, {found.rejected} refused")
    for problem in found.problems:
        print(problem, file=sys.stderr)
    if found.rejected:
        raise Failure(f"{found.rejected} lines of {file} hold no label that could be meant")
