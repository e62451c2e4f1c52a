"""Which jobs ran on a Ray cluster, as its dashboard tells it. A head remembers only its own, so lists are joined."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stackyard.evacuation import fetching

NONE = b"[]"
"""The list of a cluster on which no job was ever seen."""
_PATIENCE = 3.0
_MOST = 2000
"""Jobs that are remembered, the newest."""
_ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})

Job = dict[str, Any]


def ask(dashboard: str, token: Path | None) -> list[Job] | None:
    """The jobs that the head knows; None when it does not answer."""
    try:
        status, said = fetching.get(f"{dashboard}/api/jobs/", fetching.authorized("Bearer", token), _PATIENCE)
        found = json.loads(said) if status == 200 else None
    except fetching.ERRORS:
        return None
    return [_discreet(each) for each in found if isinstance(each, dict)] if isinstance(found, list) else None


def joined(known: bytes, told: Sequence[Job]) -> bytes:
    """What was `known` (a list as this makes it) and what is `told` now, oldest first.

    One that ran when its head died and is no longer told of has nobody who knows how it ended.
    """
    try:
        before: list[Job] = json.loads(known or NONE)
    except ValueError:
        before = []
    jobs = {_key(each): each for each in before}
    now = {_key(each): each for each in told}
    for key in jobs.keys() - now.keys():
        if jobs[key].get("status") not in _ENDED:
            jobs[key] = jobs[key] | {"status": "UNKNOWN"}
    newest = sorted((jobs | now).values(), key=lambda each: (each.get("start_time") or 0, _key(each)))[-_MOST:]
    return json.dumps(newest, indent=1, sort_keys=True).encode()


def _key(job: Job) -> tuple[str, str]:
    """Heads count from 1, so a number alone says little."""
    return str(job.get("submission_id") or job.get("job_id")), str(job.get("start_time"))


def _discreet(job: Job) -> Job:
    """Without the values of environment variables: they are where people put their passwords."""
    runtime = job.get("runtime_env")
    if not isinstance(runtime, dict) or not isinstance(runtime.get("env_vars"), dict):
        return job
    return job | {"runtime_env": runtime | {"env_vars": dict.fromkeys(runtime["env_vars"], "not saved")}}
