"""The throw-away trial, a few hundred times: a process that has imported everything and forks for each bundle.

Reads `FOLDER<tab>BUNDLE<tab>CODE_FOLDER` lines, answers `ok` or the last words of the child, `signal N` if it died.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from stackyard.serving import model, probe  # noqa: F401 - imported before the fork, so that each child is quick


def attempt(folder: str, bundle: str, code_folder: str) -> None:
    """In the child: what `python -m stackyard.serving.probe` does, words to stdout."""
    words = "ok"
    try:
        probe.check(Path(folder), bundle, Path(code_folder))
    except Exception as error:  # noqa: BLE001
        words = f"{type(error).__name__}: {error}".replace("\n", " ")
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def main() -> None:
    """Until stdin ends."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                attempt(*line.rstrip("\n").split("\t"))
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            sys.stdout.write(f"signal {os.WTERMSIG(status)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
