"""Can the rollout conclude at the traffic that the spec expects: asked of the platform, which has the tests."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from stackyard.spec import StackSpec
from stackyard.spec.problems import Keys, Origin, Problem
from stackyard.spec.units import duration_text

CODE = "stage-traffic"


def forecast(spec: StackSpec) -> list[dict[str, Any]]:
    """What each stage needs, as plain data; nothing where `rollout.traffic` is absent or there are no stages.

    Raises CalledProcessError if the platform cannot say.
    """
    if spec.project.rollout.traffic is None or not spec.project.rollout.stages:
        return []
    command = [sys.executable, "-m", "stackyard.control.forecast", str(spec.file)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def refusals(spec: StackSpec, found: list[dict[str, Any]]) -> list[Problem]:
    """The stages that cannot conclude before their deadline, at the place of the spec where they were written."""
    problems = []
    for each in found:
        if each["concludes"]:
            continue
        keys: Keys = ("rollout", "stages", each["step"])
        deadline = duration_text(spec.project.rollout.stages[each["step"]].deadline)
        days = "no time suffices" if each["days"] is None else f"{each['days']:.1f} days are needed"
        rule = f"cannot conclude before its deadline, {deadline}: {days}, since {each['reason']}"
        remedy = "raise deadline, share, margin or guards, or leave the stage out"
        problems.append(Problem(CODE, _origin(spec, keys), rule, remedy, each["kind"]))
    return problems


def show(console: Console, found: list[dict[str, Any]]) -> None:
    """The table of stages; nothing where there is nothing to say."""
    if not found:
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("rollout", "days", "what takes the longest"):
        table.add_column(heading, header_style="dim")
    for each in found:
        days = "never" if each["days"] is None else f"{each['days']:.1f}"
        table.add_row(f"{each['step'] + 1} {each['kind']}", days, each["reason"])
    console.print(table)


def _origin(spec: StackSpec, keys: Keys) -> Origin:
    """Where the stage is written, or the nearest place above it; the stack's file where it is left to its default."""
    for end in range(len(keys), 0, -1):
        if keys[:end] in spec.origins:
            return Origin(spec.origins[keys[:end]].file, spec.origins[keys[:end]].line, keys)
    return Origin(spec.file, 1, keys)
