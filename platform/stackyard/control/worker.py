"""Whatever takes longer than a look at the world is found out by a child process, which also bears the user's code.

The controller holds the release key and must answer at once; features and figures are the project's own functions,
which may print, hang, eat memory or die. So children without keys and secrets compute, asked by JSON lines, one
question at a time, and ended when they take too long or too much memory. A rollout's stage has a child of its own,
which calls no user function: a figure that hangs delays no rollback. Every question may be repeated: what was found
out lies in the store under names that follow from its inputs.

Questions and their answers (dates are ISO; `now` is the model's clock, and nothing later than it exists):

`days`: {days: [date], champion: digest, now, released: {date: time} = {}}
    -> {days: {date: {summaries: [DaySummary], facts, troubles, quality: {findings: [...]}, quarantined: bool}}}
`verdicts`: {until: date (excluded), champion: digest, now, released = {}, data_end: date | None = None}
    -> Verdicts.plain() and {labelled_until: date (excluded), new_rows, quarantined: [date], released: [date],
       metric_alarm, drift_alarm: text | None, shift_since: date | None, champion_data_end: date | None, freshness:
       finding | None, release_figures, troubles: {date: {what: why}}}. `released` are days that a person let go,
       and when; new_rows counts labelled rows from `data_end` (absent: what the champion's bundle says, else the end
       of the spec's window) up to labelled_until, quarantined days left out. No day at or after labelled_until may
       teach.
`gate`: {run_id} -> GateReport.plain(); equal for equal results.
`stage`: {release: number, now, step} or, after a promotion, {release, now, watch: true}
    -> StageVerdict.plain() (action, reason, checks, until) and {figures, release, step, now}.
Every kind takes `released`, and may pass it over.

Whatever fails is an answer, too: {"error": text for people}.
"""

from __future__ import annotations

import itertools
import json
import queue
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, PositiveInt

from stackyard.control import answering
from stackyard.control.child import Child, Found, Question

LONGEST = 600.0
"""Seconds a try to answer a question may take; there are two."""
LONGEST_STAGE = 300.0
"""The same for a stage, whose verdict users wait for; a new child first reads all that the stage has logged."""
MEMORY = 4 << 30


class WorkerSettings(BaseModel):
    """The settings file of `python -m stackyard.control.worker`; holds nothing secret."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    """The model's name."""
    store: str
    """Folder or URL of the object store."""
    project: dict[str, Any]
    """The project spec in plain form."""
    cache: Path
    """Local copies of bundles and code; may vanish."""
    trusted: tuple[str, ...]
    """Public halves of the release keys."""
    memory: PositiveInt = MEMORY
    """Bytes that a child may have in memory, 4 GiB if absent; it is ended when it takes more."""


@dataclass
class Worker:
    """The children and their questions. `ask` and `poll` return at once; a child starts with its first question."""

    settings: WorkerSettings
    folder: Path
    """Where their settings and their logs are (0700)."""
    longest: float = LONGEST
    longest_stage: float = LONGEST_STAGE
    command: tuple[str, ...] = (sys.executable, "-m", "stackyard.control.worker")
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _found: Found = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        self._children = {name: self._child(name) for name in ("worker", "stage")}

    def ask(self, kind: str, **arguments: Any) -> str:
        """Begin to find out; the ticket names the answer. Arguments are JSON values."""
        ticket = f"{kind}-{next(self._numbers)}"
        line = json.dumps({"ticket": ticket, "kind": kind, "arguments": arguments}).encode() + b"\n"
        staged = kind == "stage"
        seconds = self.longest_stage if staged else self.longest
        self._children["stage" if staged else "worker"].ask(Question(ticket, line, seconds))
        return ticket

    def poll(self) -> Mapping[str, dict[str, Any]]:
        """The answers since the last call, by ticket: `{"result": ...}` or `{"error": text}`."""
        found = {}
        while True:
            try:
                ticket, answer = self._found.get_nowait()
            except queue.Empty:
                return found
            found[ticket] = answer

    @property
    def answered(self) -> bool:
        """Whether `poll` has something to give."""
        return not self._found.empty()

    def stop(self) -> None:
        """End the children; open questions get no result."""
        for child in self._children.values():
            child.stop()

    @property
    def pids(self) -> tuple[int, ...]:
        """Those of the children that live."""
        return tuple(child.pid for child in self._children.values() if child.pid is not None)

    def _child(self, name: str) -> Child:
        told = self.settings
        return Child(name, self.folder, told.model_dump_json(), told.store, told.memory, self.command, self._found)


def main(path: str) -> int:
    """Answer until the parent closes the pipe, and never outlive it."""
    read, write = answering.private_pipes()
    answering.end_with_parent()
    from stackyard.control.findings import Findings

    findings = Findings.of(WorkerSettings.model_validate_json(Path(path).read_bytes()))
    answering.serve(findings.answer, read, write)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
