"""`python -m stackyard.evacuation VERB SETTINGS.json [--json]`: saves, proves, freezes, evacuates and restores.

Exit codes: 0 done; 1 something could not be saved, proven or found, all of it listed; 2 the settings or the call make
no sense. With --json one object is printed, with `ok`, `verb` and what the verb found; `watch` prints one a save.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

from stackyard.evacuation import telling, verbs
from stackyard.evacuation.errors import EvacuationError, SettingsError
from stackyard.evacuation.settings import read


def main(arguments: list[str]) -> int:
    """Carry out one verb. Returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = read(options.settings)
    except SettingsError as error:
        return _end(options, {"ok": False, "code": error.code, "reason": str(error)}, 2)
    try:
        outcome: dict[str, Any] = getattr(verbs, options.verb)(settings, options)
    except SettingsError as error:
        return _end(options, {"ok": False, "code": error.code, "reason": str(error)}, 2)
    except EvacuationError as error:
        return _end(options, telling.refusal(error), 1)
    except sqlite3.Error as error:
        reason = f"the saver's memory in {settings.state} cannot be used ({error}): is its disk full?"
        return _end(options, {"ok": False, "code": "state", "reason": reason}, 1)
    except (OSError, KeyError) as error:
        return _end(options, {"ok": False, "code": "failed", "reason": str(error)}, 1)
    return _end(options, outcome, 0 if outcome["ok"] else 1)


def _end(options: argparse.Namespace, outcome: dict[str, Any], code: int) -> int:
    if options.json:
        print(json.dumps({"verb": options.verb, **outcome}), flush=True)
    else:
        print(telling.sentences(options.verb, outcome), file=sys.stdout if outcome["ok"] else sys.stderr, flush=True)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stackyard.evacuation", description=__doc__)
    kinds = parser.add_subparsers(dest="verb", required=True)
    said = {
        "save": "make one version, if anything is new",
        "watch": "save every so often until SIGTERM",
        "status": "the newest version, its age, what is not saved now",
        "verify": "read a version back from the store",
        "freeze": "stop the workspace's writers",
        "thaw": "let them go on",
        "evacuate": "save, verify, freeze, save and verify the difference, sign a receipt",
        "suspend": "as evacuate, without receipt or seal: for a cluster that may go on later",
        "receipt": "whether this instance and generation may go",
        "discard": "choose to lose what is not saved",
        "restore": "bring a version to an empty folder, or into an untouched workspace",
    }
    for verb, sentence in said.items():
        each = kinds.add_parser(verb, help=sentence)
        each.add_argument("settings", type=Path, metavar="SETTINGS.json")
        if verb == "watch":
            each.add_argument("--every", type=float, help="seconds between saves (default: the settings')")
            each.add_argument("--times", type=int, help="end after so many saves")
        if verb == "verify":
            each.add_argument("version", nargs="?", default="latest", help="its number; the newest by default")
        if verb == "discard":
            each.add_argument("--because", required=True, help="why it may be lost")
            each.add_argument("--by", help="who says so (default: the user)")
        if verb == "restore":
            each.add_argument("what", metavar="RECEIPT|VERSION|latest")
            each.add_argument("target", type=Path, metavar="TARGET", nargs="?", help="an empty or absent folder")
            each.add_argument("--into", type=Path, metavar="SETTINGS.json", help="the settings of a workspace instead")
            each.add_argument("--extras", type=Path, help="a folder for what was saved beside the workspace")
        each.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
