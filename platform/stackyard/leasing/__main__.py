"""`python -m stackyard.leasing VERB FOLDER [--json]`: ends leased clusters, tells of them, extends and resumes them.

FOLDER is a cluster's, `.stackyard/<stack>/leases/<cluster>`. Exit codes: 0 all is as it should be; 1 something failed,
and is listed; 2 the call makes no sense; 4 somebody else is at it; 5 the lease does not allow it. With --json one
object is printed.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

from stackyard.leasing import verbs
from stackyard.leasing.acting import Children


def main(arguments: list[str]) -> int:
    """Carry out one verb. Returns the exit code."""
    options = _parser().parse_args(arguments)
    match options.verb:
        case "reap":
            code, told = _reap(options)
        case "status":
            code, told = verbs.status(options.folder, clock=options.clock)
        case "extend":
            code, told = verbs.extend(options.folder, options.seconds, options.by, options.because, clock=options.clock)
        case "resume":
            code, told = verbs.resume(options.folder, options.by, options.because, clock=options.clock)
        case _:
            code, told = verbs.suspend(options.folder, options.because, options.reason, clock=options.clock)
    if options.json:
        print(json.dumps({"verb": options.verb, **told}), flush=True)
    else:
        print(sentences(options.verb, told), file=sys.stdout if code == 0 else sys.stderr, flush=True)
    return code


def sentences(verb: str, told: dict[str, Any]) -> str:
    """The same for people."""
    if verb == "reap":
        return "\n".join(
            f"{each['cluster']}: {', '.join(each['did']) or each.get('state', each['outcome'])}; "
            f"{each['failed'] or each['because']}"
            for each in told["clusters"]
        )
    if told.get("reason"):
        return f"{verb}: {told['reason']}"
    return f"{told['cluster']}: {told['state']}; {told['decision']['because']}"


def _reap(options: argparse.Namespace) -> verbs.Answer:
    children = Children()

    def end(_number: int, _frame: object) -> None:
        children.end()

    signal.signal(signal.SIGTERM, end)
    return verbs.reap(options.folder, clock=options.clock, stack_id=options.stack_id, children=children)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stackyard.leasing", description=__doc__)
    kinds = parser.add_subparsers(dest="verb", required=True)
    said = {
        "reap": "one look at each cluster: what is over is saved and suspended",
        "status": "until when it is lent, what is decided, what it cost, how it is used",
        "extend": "have it end later",
        "resume": "start a suspended one again",
        "suspend": "save it and end its processes",
    }
    for verb, sentence in said.items():
        each = kinds.add_parser(verb, help=sentence)
        each.add_argument("folder", type=Path, metavar="FOLDER", nargs="+" if verb == "reap" else None)
        each.add_argument("--clock", type=Path, help="the file of the stack's virtual clock")
        each.add_argument("--json", action="store_true", help="print one JSON object")
        if verb == "reap":
            each.add_argument("--stack-id", help="leave alone what is of another stack")
        if verb == "extend":
            each.add_argument("--seconds", type=float, required=True, help="by how much")
            each.add_argument("--by", required=True, help="who asks for it")
        if verb == "resume":
            each.add_argument("--by", help="who asks for it (default: the user)")
            each.add_argument("--because", default="a person asked for it")
        if verb == "suspend":
            each.add_argument("--reason", choices=("asked", "orphan"), default="asked")
        if verb in ("extend", "suspend"):
            each.add_argument("--because", required=True, help="why; others will read it")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
