"""supervisord, with three habits it lacks: a bounded back-off that never gives up, and a lock on the runtime folder.

As it comes, supervisord waits one second longer after each failed start, without bound, and gives up after
`startretries`. Here the wait is bounded and nothing is given up: a database that is away for an hour must not need a
person afterwards. The lock (flock on the folder) is what makes systemd-tmpfiles spare a folder in /tmp.

`python -m stackyard_infra.provider.supervisord RUNTIME -c FILE -n`
"""

from __future__ import annotations

import fcntl
import os
import sys

from supervisor import process, states, supervisord

LONGEST_WAIT = 10  # seconds between two starts of a process that keeps failing


def bounded(subprocess_class: type[process.Subprocess]) -> None:
    """Let `subprocess_class` back off for at most LONGEST_WAIT seconds, for ever."""
    original = subprocess_class.change_state

    def change_state(self, new_state, expected=True):
        if new_state == states.ProcessStates.BACKOFF:
            self.backoff = min(self.backoff, LONGEST_WAIT - 1)  # the original adds one, then waits that long
        return original(self, new_state, expected)

    subprocess_class.change_state = change_state


def main(arguments: list[str]) -> None:
    """Run supervisord on the remaining arguments, holding the runtime folder."""
    folder = os.open(arguments[0], os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(folder, fcntl.LOCK_SH)
    bounded(process.Subprocess)
    supervisord.main(arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
