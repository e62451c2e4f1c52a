"""Stands for `python -m stackyard.certificates`: says yes to everything and leaves a file that says so."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path


def main(verb: str, ledger: str, *_options: str) -> None:
    told = {"ok": True, "verdict": "clean", "sentence": "clean", "lines": [], "away": [], "reason": ""}
    if verb == "certify":
        path = Path(ledger)
        folder = Path(json.loads(path.read_text())["certificates"])
        name = f"{path.parent.name}-0001"
        (folder / f"{name}.json").write_text(json.dumps(told))
        shutil.rmtree(path.parent)
        told["certificate"] = name
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
