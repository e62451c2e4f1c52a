"""Verbs of the evacuation as processes of their own, at the price of a fork: the interpreter was started once.

What is killed at a failpoint is killed by the kernel, so nothing of it cleans up. The server never touches a store
itself: threads of the store's client would not live in its children.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackyard.evacuation.settings import SaverSettings

SERVER = """
import json, os, sys
import numpy, pyarrow
from stackyard.evacuation import __main__ as command

for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
        os.setsid()
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.chdir(asked["folder"])
        for stream, path in ((1, asked["out"]), (2, asked["out"] + ".err")):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        code = 3
        try:
            code = command.main(asked["arguments"])
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@dataclass
class Outcome:
    """What a process printed and ended with; a negative code is a signal's."""

    code: int
    told: dict[str, Any]
    stderr: str


class Verbs:
    """Runs one verb after the other."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="stackyard-verbs-"))
        self._server = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self, settings: SaverSettings, verb: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> Outcome:
        """`python -m stackyard.evacuation VERB SETTINGS.json ARGUMENTS --json`, in this environment with changes."""
        place, out = self._folder / f"settings-{secrets.token_hex(4)}.json", self._folder / "out"
        place.write_text(settings.model_dump_json())
        asked = {
            "arguments": [verb, str(place), *arguments, "--json"],
            "environment": {**os.environ, **(environment or {})},
            "folder": os.getcwd(),
            "out": str(out),
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(asked) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        line = out.read_text().strip().splitlines()[-1:] or ["{}"]
        return Outcome(code, json.loads(line[0]), Path(f"{out}.err").read_text())

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()
        shutil.rmtree(self._folder)


@functools.cache
def verbs() -> Verbs:
    """The one of this test process, ended with it."""
    made = Verbs()
    atexit.register(made.close)
    return made
