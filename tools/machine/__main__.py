"""Entry of `tools/machine.sh`: put tools/ on the path, so that `machine` is a package here as it is in the tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

try:
    from machine.commands import main

    main(sys.argv[1:])
except KeyboardInterrupt:  # before the commands could take it
    sys.exit(130)
