"""Entry of `tools/machine.sh`: put tools/ on the path, so that `machine` is a package here as it is in the tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from machine.commands import main  # noqa: E402 - the path comes first

main(sys.argv[1:])
