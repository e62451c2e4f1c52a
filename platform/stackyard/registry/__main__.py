"""`python -m stackyard.registry < PROJECTION.json`: one projection in a process of its own.

MLflow's client is heavy and slow to give up on a server that is away; whoever asks for a projection should feel
neither. Exit 0 when it was made, 1 when not.
"""

from __future__ import annotations

import json
import sys

from stackyard.registry.mlflow_projection import project


def main() -> int:
    """Project what standard input says: the keyword arguments of `project`, as JSON."""
    return 0 if project(**json.load(sys.stdin)) else 1


if __name__ == "__main__":
    sys.exit(main())
