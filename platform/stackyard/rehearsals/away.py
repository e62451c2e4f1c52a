"""A store that is away for a while, and comes back whatever becomes of who took it.

`python -m stackyard.rehearsals.away RECORD.json SECONDS` writes down what it will do, moves the folder of the store
aside and puts a file in its place, so that nobody makes an empty store there. When its standard input ends (also
because who started it was killed) or the time is over, it puts everything back. Should it be killed itself, whoever
rehearses next does that, by the record.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import sys
from pathlib import Path

_SAID = "The artifact store is aside for a rehearsed outage; `stackyard rehearse` puts it back.\n"


def aside(store: Path) -> Path:
    """Where it is meanwhile: on the same disk."""
    return store.with_name(f".{store.name}.aside")


def take(store: Path, record: Path) -> None:
    """Move the folder `store` aside, written down first. Raises OSError."""
    record.write_text(json.dumps({"store": str(store)}))
    store.rename(aside(store))
    with store.open("x") as file:
        file.write(_SAID)


def put_back(record: Path) -> str | None:
    """Bring back what the record speaks of. Returns where a store lies that somebody made meanwhile; mostly None."""
    with record.with_suffix(".lock").open("a") as one:  # of two who come, the second must not find a store "made"
        fcntl.flock(one, fcntl.LOCK_EX)
        return _put_back(record)


def main(arguments: list[str]) -> int:
    """Take it, wait, put it back. Returns the exit status."""
    record, seconds = Path(arguments[0]), float(arguments[1])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends by putting back, in no other way
    store = Path(sys.stdin.readline().rstrip("\n"))
    try:
        take(store, record)
        print("away", flush=True)
        select.select([sys.stdin], [], [], seconds)
    finally:
        made = put_back(record)
    with contextlib.suppress(BrokenPipeError):  # the rehearsal died meanwhile
        os.write(sys.stdout.fileno(), f"{made or ''}\n".encode())
    return 0


def _put_back(record: Path) -> str | None:
    try:
        store = Path(json.loads(record.read_text())["store"])
    except (FileNotFoundError, ValueError):
        record.unlink(missing_ok=True)  # half written: nothing was moved yet
        return None
    made = None
    if aside(store).is_dir():
        if store.is_file():
            store.unlink()
        elif store.is_dir():
            made = store.with_name(f"{store.name}.made-meanwhile")
            store.rename(made)
        aside(store).rename(store)
    record.unlink(missing_ok=True)
    return None if made is None else str(made)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
