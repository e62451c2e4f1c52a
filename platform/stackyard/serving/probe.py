"""The first look at a new bundle happens in a process that may die.

A single flipped bit in a model file kills the whole process about one time in seven, and a hostile file may do
worse than die. So a child with limits on memory, time and files parses the bundle and answers its golden rows
first; the replica loads only what its child has survived.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from stackyard.serving.screening import RefusedError

SECONDS = 60
MEMORY = 1 << 30
"""Bytes of address space beyond what the libraries reserve and eight times the bundle: a cut file can ask for any."""

_INHERITED = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR", "TZ")


def run(folder: Path, bundle: str, code_folder: Path, *, seconds: float = SECONDS) -> None:
    """Try bundle `folder` in a child. Raises RefusedError with the child's last words."""
    kept = {name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith("STACKYARD_")}
    command = [sys.executable, "-m", "stackyard.serving.probe", str(folder), bundle, str(code_folder)]
    try:
        done = subprocess.run(
            command,
            env=kept | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"},  # no token, no secret of the replica
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise RefusedError(f"the bundle was not checked within {seconds:g} s") from None
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no last words"]
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit {done.returncode}"
        raise RefusedError(f"its trial process ended with {how}: {words[0][:300]}")


def check(folder: Path, bundle: str, code_folder: Path) -> None:
    """Everything the child does: load, look at the weights, answer the golden rows. Raises what it meets."""
    from stackyard.serving import model

    limit(folder)
    loaded = model.load(folder, bundle, code_folder)
    model.check_weights(loaded)
    model.check_golden(loaded)


def limit(folder: Path) -> None:
    """Bound this process, its libraries loaded: memory, processor time, files it may write."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = sum(path.stat().st_size for path in folder.iterdir())
    memory = pages * resource.getpagesize() + MEMORY + 8 * size
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(arguments: list[str]) -> int:
    """`FOLDER BUNDLE CODE_FOLDER`; 0 when the bundle may be loaded, else 1 and one line on stderr."""
    folder, bundle, code_folder = arguments
    sys.dont_write_bytecode = True
    try:
        check(Path(folder), bundle, Path(code_folder))
    except Exception as error:  # noqa: BLE001
        print(f"{type(error).__name__}: {error}".replace("\n", " "), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
