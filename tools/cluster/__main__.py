"""Entry of `tools/machine.sh cluster`: put tools/ on the path, so that `cluster` is a package here as in the tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

try:
    from cluster.commands import main

    main(sys.argv[1:])
except KeyboardInterrupt:  # before the commands could take it
    sys.exit(130)
