"""What the platform's evacuation says, asked as a process: infra imports nothing that saves, signs or verifies.

`python -m stackyard.evacuation VERB SETTINGS.json --json`. Exit code 0 is yes, 1 is no: its `reason`, `losses` (each
with `path` and `reason`) and how many `more` are told. Anything else is a fault, and a fault never counts as a yes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackyard_infra.provider import tagged
from stackyard_infra.provider.daemon import surroundings
from stackyard_infra.provider.errors import Refusal

MODULE = (sys.executable, "-P", "-m", "stackyard.evacuation")
LISTED = 20
"""Losses told on the screen; the rest is counted."""


@dataclass(frozen=True)
class Answer:
    """What a verb said: yes or no, and its document."""

    yes: bool
    told: Mapping[str, Any]

    @property
    def discard(self) -> bool:
        """Whether a person gave this instance and generation up."""
        return self.yes and bool(self.told.get("discard"))

    @property
    def count(self) -> int:
        """How many things would be lost."""
        return len(self.told.get("losses", [])) + int(self.told.get("more", 0))

    def because(self) -> str:
        """Why not, and what would be lost, a line each; at most `LISTED` of them."""
        named = self.told.get("losses", [])
        lines = [str(self.told.get("reason", "the evacuation does not say why"))]
        lines += [f"{each.get('path', '?')}: {each.get('reason', 'not saved')}" for each in named[:LISTED]]
        if self.count > len(lines) - 1:
            lines.append(f"and {self.count - len(lines) + 1} more")
        return "\n".join(f"    {_on_one_line(line)}" for line in lines)


class Evacuation:
    """The verbs, for one settings file. Each waits until the process ends; a save takes as long as it takes."""

    def __init__(self, settings: Path, command: Sequence[str] = MODULE) -> None:
        self._settings, self._command = settings, tuple(command)

    def ask(self, verb: str, *arguments: str) -> Answer:
        """What `verb` answers. Raises Refusal when the process fails to answer."""
        command = [*self._command, verb, str(self._settings), *arguments, "--json"]
        settings = json.loads(self._settings.read_text())
        environment = surroundings(os.environ) | {
            tagged.STACK_TAG: settings["stack_id"],
            tagged.PROCESS_TAG: f"evacuation-{settings['cluster']}",
            "PYTHONSAFEPATH": "1",
        }
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        )
        told = _document(done.stdout)
        if done.returncode not in (0, 1) or (told is None and done.returncode == 1):
            said = (told or {}).get("reason") or done.stderr.strip() or "it said nothing"
            reason = said.splitlines()[-1]
            raise Refusal(
                f"What is saved of {settings['cluster']} is not known: `evacuation {verb}` failed "
                f"(exit code {done.returncode}: {reason}). Nothing was taken away; run the command again."
            )
        return Answer(done.returncode == 0, told or {})

    def discard_command(self) -> str:
        """What a person runs to lose the work on purpose."""
        settings = json.loads(self._settings.read_text())
        return f'stackyard evacuate {settings["cluster"]} --discard --because "..." -s {settings["stack"]}'


def _document(text: str) -> Mapping[str, Any] | None:
    """The JSON object that was printed: the whole output, or its last line."""
    for part in (text, (text.strip().splitlines() or [""])[-1]):
        try:
            found = json.loads(part)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return None


def _on_one_line(text: str) -> str:
    return text.replace("\n", "\\n").replace("\r", "\\r")
