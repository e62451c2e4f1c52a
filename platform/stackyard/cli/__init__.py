"""The `stackyard` command: thin over the modules that do the work.

Exit codes: 0 ok, 1 failed, 2 usage, 3 invalid spec, 4 locked or busy, 5 policy or budget. Every command that
shows something has `--json`. Commands of other distributions join by the entry point group `stackyard.commands`.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points


def main() -> None:
    """Run the command line; errors people can mend are one sentence, never a traceback."""
    from stackyard.cli.failures import Failure, report
    from stackyard.cli.leased import app  # with its verbs

    for point in sorted(entry_points(group="stackyard.commands"), key=lambda point: point.name):
        point.load()(app)
    try:
        app()
    except Failure as failure:
        sys.exit(report(failure))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, which is its good right
        sys.stderr.close()
        sys.exit(0)
