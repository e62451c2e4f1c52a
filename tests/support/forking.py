"""Verbs of the evacuation as processes of their own, at the price of a fork: the interpreter was started once.

What is killed at a failpoint is killed by the kernel, so nothing of it cleans up. The server never touches a store
itself: threads of the store's client would not live in its children.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackyard.evacuation.failpoints import VARIABLE
from stackyard.evacuation.settings import SaverSettings

SERVER = """
import json, os, sys
import numpy, pyarrow
from stackyard.evacuation import __main__ as command

for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
        os.environ.update(asked["environment"])
        for stream, path in ((1, asked["out"]), (2, asked["out"] + ".err")):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        os.setsid()
        code = 3
        try:
            code = command.main(asked["arguments"])
        except SystemExit as error:
            code = int(error.code or 0)
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@dataclass
class Answer:
    """What a verb printed and ended with; a negative code is a signal's."""

    code: int
    told: dict[str, Any]


class Verbs:
    """Runs one verb after the other."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="stackyard-verbs-"))
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, settings: SaverSettings, verb: str, *arguments: str, kill: str | None = None) -> Answer:
        """`verb`, killed -9 at the failpoint `kill` if it comes there."""
        place, out = self._folder / "settings.json", self._folder / "out"
        place.write_text(settings.model_dump_json())
        asked = {
            "arguments": [verb, str(place), *arguments, "--json"],
            "environment": {VARIABLE: kill or ""},
            "out": str(out),
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(asked) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        lines = out.read_text().strip().splitlines()[-1:] or ["{}"]
        assert code in (0, 1, -9), f"{verb} ended with {code}: {(self._folder / 'out.err').read_text()[-2000:]}"
        return Answer(code, json.loads(lines[0]))

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()
        for path in self._folder.iterdir():
            path.unlink()
        os.rmdir(self._folder)
