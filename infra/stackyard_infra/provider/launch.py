"""The step between the supervisor and a process: it makes sure that there is only ever one of it.

`python -m stackyard_infra.provider.launch LAUNCH.json`, run in place of the command: ask the kernel to end us with
the supervisor (a supervisor killed -9 must not leave duplicates), end what an earlier life of this process left
behind, remove what `stale` names, set the environment, become the command. (Secrets are files of the process; no
environment carries them.)
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

from stackyard_infra.provider import tagged

_PR_SET_PDEATHSIG = 1


def environment(launch: dict, inherited: dict[str, str]) -> dict[str, str]:
    """What the command sees: the supervisor's clean environment, its own settings and its tag."""
    result = {key: value for key, value in inherited.items() if not key.startswith("SUPERVISOR_")}
    result |= launch["environment"]
    return result | {tagged.PROCESS_TAG: launch["name"]}


def main(arguments: list[str]) -> None:
    """Become the command that the launch file names."""
    launch = json.loads(Path(arguments[0]).read_text())
    supervisor = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != supervisor:
        sys.exit("the supervisor ended while this process was being started")
    left = tagged.end(launch["stack_id"], launch["name"], grace=0)
    if left:
        sys.exit(f"an earlier {launch['name']} does not end: {'; '.join(left)}")
    for file in launch.get("stale", ()):
        Path(file).unlink(missing_ok=True)
    os.chdir(launch["folder"])
    command = launch["command"]
    os.execvpe(command[0], command, environment(launch, dict(os.environ)))  # noqa: S606 (no shell is the point)


if __name__ == "__main__":
    main(sys.argv[1:])
