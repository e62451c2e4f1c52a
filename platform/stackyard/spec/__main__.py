"""Is a stack's spec sound? `python -m stackyard.spec stacks/local.yaml`: exit code 0, or 3 with every problem."""

from __future__ import annotations

import sys
from pathlib import Path

from stackyard.spec import SpecError, find_stack, load


def main(arguments: list[str]) -> int:
    """Checks the files given, or the stack of this checkout."""
    if any(each.startswith("-") for each in arguments):
        print("usage: python -m stackyard.spec [STACK_FILE ...]", file=sys.stderr)
        return 2
    try:
        for file in arguments or [str(find_stack(None, Path.cwd()))]:
            load(Path(file))
    except SpecError as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
