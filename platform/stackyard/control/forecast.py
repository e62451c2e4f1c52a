"""How long each stage of a stack's rollout will take, for those who plan it and may not import what runs.

`python -m stackyard.control.forecast STACK_FILE` prints a JSON list of StageEstimate; [] where the spec expects no
traffic or has no stages.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from stackyard.control.traffic import estimate
from stackyard.spec import load


def main(file: Path) -> None:
    """Print the estimates of the stack whose file is `file`. Raises SpecError for an unsound spec."""
    project = load(file).project
    traffic = project.rollout.traffic
    found = [] if traffic is None else estimate(project.rollout, project.monitoring, traffic)
    print(json.dumps([each.plain() for each in found]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
