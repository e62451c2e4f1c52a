"""Whether a lease is over, asked of the platform as a process: end, time to live and money, extensions counted.

`python -m stackyard.leasing status FOLDER --json` prints, among the rest, `at` (the stack's now) and `all_ends`, each
of the lease's ends by its reason (`end`, `ttl`, `budget`). A lease that nobody can read has no end that is known.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stackyard_infra.provider.daemon import surroundings
from stackyard_infra.provider.errors import Refusal

MODULE = (sys.executable, "-P", "-m", "stackyard.leasing")
ENDS = {
    "end": "its last day is over",
    "ttl": "it was open for as long as it was lent",
    "budget": "it cost what it may cost",
}
FAILED = 1
LIMIT = 120
"""Seconds: it reads files and asks what runs on this machine."""


def standing(folder: Path, command: Sequence[str] = MODULE) -> Mapping[str, Any]:
    """What is known of the lease of the cluster in `folder`. Raises Refusal when nobody can say."""
    code, told, said = ask(folder, "status", command=command, limit=LIMIT)
    if not {"at", "all_ends"} <= told.keys():
        raise Refusal(
            f"Whether the lease of {folder.name} is over is not known: `leasing status` failed "
            f"(exit code {code}: {said}). Run the command again."
        )
    return told


def ask(
    folder: Path, verb: str, *arguments: str, command: Sequence[str] = MODULE, limit: float | None = None
) -> tuple[int, Mapping[str, Any], str]:
    """What `verb` answers of the cluster in `folder`: exit code, document ({} for none), last words on stderr."""
    asked = [*command, verb, str(folder), *arguments, "--json"]
    try:
        done = subprocess.run(
            asked, env=surroundings(os.environ) | {"PYTHONSAFEPATH": "1"}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=limit,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return FAILED, {}, str(error)
    said = (done.stderr.strip() or "it said nothing").splitlines()[-1]
    try:
        told = json.loads((done.stdout.strip().splitlines() or [""])[-1])
    except ValueError:
        told = {}
    return done.returncode, told if isinstance(told, dict) else {}, said


def refuse_over(stack: str, folder: Path, command: Sequence[str] = MODULE) -> None:
    """Raises Refusal where the lease of the cluster in `folder` is over: nothing is opened only to be ended."""
    told = standing(folder, command)
    over = [why for reason, why in ENDS.items() if is_over(told, reason)]
    if over:
        raise Refusal(
            f"Cluster {folder.name} is not opened, since its lease is over: {over[0]}. If the policy allows it: "
            f'stackyard lease extend {folder.name} --for 7d --because "..." -s {stack}; or give it more '
            f"(lease.end, lease.ttl, budget.money) in stacks/{stack}.yaml. Its workspace is kept."
        )


def is_over(told: Mapping[str, Any], *reasons: str) -> bool:
    """Whether one of the lease's ends (by default any) has come, by what `standing` told."""
    ends, now = told["all_ends"], dt.datetime.fromisoformat(told["at"])
    return any(dt.datetime.fromisoformat(ends[name]) <= now for name in reasons or ENDS if name in ends)
