"""`python -m stackyard.certificates VERB LEDGER.json [--json]`: asked as a process by whoever takes things away.

    before    while the workspace is still there: whether the store really holds it
    certify   after it went: look for all of it, read the store again, sign what was found

Exit codes: 0 yes; 1 something leaked, was lost or cannot be asked for, all of it listed; 2 the call makes no sense.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from stackyard.certificates import issuing, telling
from stackyard.certificates.certificate import CertificateError
from stackyard.certificates.ledger import LedgerError


def main(arguments: list[str]) -> int:
    """Carry out one verb. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m stackyard.certificates", description=__doc__)
    parser.add_argument("verb", choices=["before", "certify"])
    parser.add_argument("ledger", type=Path, metavar="LEDGER.json")
    parser.add_argument("--final", action="store_true", help="this is the last time that one asks: the ledger may go")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    try:
        told = _before(options.ledger) if options.verb == "before" else _certify(options.ledger, options.final)
    except LedgerError as error:
        return _end(options, {"ok": False, "reason": str(error)}, 2)
    except (CertificateError, OSError) as error:
        return _end(options, {"ok": False, "reason": str(error)}, 1)
    return _end(options, told, 0 if told["ok"] else 1)


def _before(ledger: Path) -> dict[str, Any]:
    proof = issuing.before(ledger)
    ok = proof.verdict in ("safe", "given-up")
    return {"ok": ok, "reason": "; ".join(proof.why), **dataclasses.asdict(proof)}


def _certify(ledger: Path, final: bool) -> dict[str, Any]:
    return telling.plain(issuing.certify(ledger, final=final))


def _end(options: argparse.Namespace, told: dict[str, Any], code: int) -> int:
    if options.json:
        print(json.dumps({"verb": options.verb, **told}), flush=True)
    else:
        text = "\n  ".join([told.get("sentence") or told.get("reason", ""), *told.get("lines", [])])
        print(text, file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
