"""Whether a GPU of this machine computes for a cluster, as `nvidia-smi` says; where there is none, that."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Collection

from stackyard.leasing.evidence import Evidence

TIMEOUT = 10.0
Ask = Callable[[str], str]
"""The lines that `nvidia-smi` answers to one query, without headings and units. Raises OSError, SubprocessError."""


def evidence(pids: Collection[int], ask: Ask | None = None, *, lives: Callable[[int], bool] | None = None) -> Evidence:
    """Whether a GPU is busy for one of `pids`, or for somebody who cannot be told: a container hides its numbers."""
    if ask is None and shutil.which("nvidia-smi") is None:
        return Evidence("gpu", "there is no GPU")
    ask, lives = ask or _ask, lives or (lambda pid: os.path.exists(f"/proc/{pid}"))
    try:
        shares = dict(line.split(", ") for line in ask("--query-gpu=uuid,utilization.gpu").splitlines())
        apps = [line.split(", ") for line in ask("--query-compute-apps=gpu_uuid,pid").splitlines()]
        held = {uuid: {int(pid) for gpu, pid in apps if gpu == uuid} for uuid in shares}
        busy = {uuid: share for uuid, share in shares.items() if not share.isdecimal() or int(share) > 0}
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return Evidence("gpu", f"nvidia-smi does not say ({type(error).__name__}), which counts as use", known=False)
    for uuid, share in busy.items():
        if held[uuid] & set(pids):
            return Evidence("gpu", f"its processes hold a GPU that is {share} % busy", busy=True)
        if not held[uuid] or not all(lives(pid) for pid in held[uuid]):
            return Evidence("gpu", f"a GPU is {share} % busy, and nobody says for whom", busy=True)
    return Evidence("gpu", "no GPU computes for it" if shares else "there is no GPU")


def _ask(query: str) -> str:
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT).stdout
