"""Whether anybody uses a cluster, asked of Ray, of Jupyter, of its processes and of the GPU, with what each says.

The safe side is use. What cannot be asked is unknown, and nobody may call the cluster idle then; what is only sampled
(processes, GPU) counts as used whenever nobody looked for a while. A job that was submitted is use while it runs. A
driver that somebody left connected, in a notebook over the weekend, is use when it begins and ends: what it does
meanwhile shows in the processes, of which Ray's workers are some.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any

from stackyard.evacuation import fetching
from stackyard.leasing import gpus, processes
from stackyard.leasing.evidence import Evidence, fold
from stackyard.leasing.facts import Lease, Signal, plain

TIMEOUT = 5.0
"""Seconds in which Ray and Jupyter have to answer."""
GAP = 300.0
"""Seconds between two looks beyond which what is sampled counts as used."""
_ENDED = ("STOPPED", "SUCCEEDED", "FAILED")


def look(
    lease: Lease,
    found: Sequence[processes.Mine],
    *,
    running: bool,
    before: Mapping[str, Any],
    now: dt.datetime,
    real: dt.datetime,
) -> dict[str, Any]:
    """Ask everything; returns what `idle.json` is to hold. `before` is what it holds; `now` is by the stack's clock,
    `real` by the machine's."""
    counts = processes.count(found, *processes.uptime())
    asked = [
        *([jobs(lease)] if running else [Evidence("jobs", "no Ray runs")]),
        *([kernels(lease)] if running and lease.notebook is not None else []),
        processes.judge(processes.Counts.read(before.get("counts")), counts, found, gap=GAP),
        gpus.evidence({each.pid for each in found}),
    ]
    earlier = {each.get("name"): each for each in before.get("signals") or () if isinstance(each, dict)}
    looked = _moment(before.get("real"))
    signals = [
        fold(_signal(earlier.get(each.name)), each, now, looked=looked, virtual=lease.clock is not None)
        for each in asked
    ]
    return {
        "version": 1,
        "at": now.isoformat(),
        "real": real.isoformat(),
        "signals": [plain(each) for each in signals],
        "counts": counts.kept(),
        "resumed": before.get("resumed"),
    }


def jobs(lease: Lease) -> Evidence:
    """Ray's jobs: a submitted one that has not ended is use; else the end of the last one was."""
    if lease.dashboard is None:
        return Evidence("jobs", "no Ray runs")
    found, why = _asked(f"{lease.dashboard}/api/jobs/", lease.ray_token, "Bearer")
    if not isinstance(found, list):
        return Evidence("jobs", f"Ray does not say what runs ({why}), which counts as use", known=False)
    running = [each for each in found if each.get("status") not in _ENDED]
    submitted = [each for each in running if each.get("type") != "DRIVER"]
    times = [each.get(name) for each in found for name in ("end_time", "start_time")]
    last = max((at for each in times if (at := _of_milliseconds(each)) is not None), default=None)
    if submitted:
        name = submitted[0].get("submission_id") or submitted[0].get("job_id")
        return Evidence("jobs", f"job {name} is {str(submitted[0].get('status')).lower()}", busy=True)
    if running:
        many = f"{len(running)} drivers are" if len(running) > 1 else "a driver is"
        return Evidence("jobs", f"{many} connected and {len(found) - len(running)} jobs have ended", last=last)
    return Evidence("jobs", "no job was ever run" if last is None else f"the last job ended {_said(last)}", last=last)


def kernels(lease: Lease) -> Evidence:
    """Jupyter's kernels: one that computes or starts is use; else the last activity was."""
    found, why = _asked(f"{lease.notebook}/api/kernels", lease.notebook_token, "token")
    if not isinstance(found, list):
        return Evidence("kernels", f"Jupyter does not say what runs ({why}), which counts as use", known=False)
    busy = [each for each in found if each.get("execution_state") not in ("idle", "dead")]
    last = max((at for each in found if (at := _moment(each.get("last_activity"))) is not None), default=None)
    if busy:
        return Evidence("kernels", f"{len(busy)} of {len(found)} kernels compute", busy=True)
    if last is None:
        return Evidence("kernels", "there is no kernel")
    return Evidence("kernels", f"{len(found)} kernels rest since {_said(last)}", last=last)


def _asked(url: str, token: str | None, scheme: str) -> tuple[Any, str]:
    """What a server on this machine answers, or None and why not. No secret is in that."""
    try:
        status, said = fetching.get(url, fetching.authorized(scheme, token), TIMEOUT)
        if status != 200:
            return None, f"it answers {status}"
        found = json.loads(said)
        return (found, "") if isinstance(found, list) and all(isinstance(e, dict) for e in found) else (None, "no list")
    except fetching.ERRORS as error:
        return None, type(error).__name__


def _signal(found: Any) -> Signal | None:
    try:
        return None if found is None else Signal.model_validate(found)
    except ValueError:
        return None


def _moment(text: Any) -> dt.datetime | None:
    try:
        found = dt.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=dt.UTC)


def _of_milliseconds(number: Any) -> dt.datetime | None:
    try:
        return dt.datetime.fromtimestamp(number / 1000, dt.UTC) if number else None
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _said(at: dt.datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
