"""The Pulumi program: load this stack's spec, build it."""

from pathlib import Path

import pulumi

from stackyard.spec import SpecError, load
from stackyard_infra.program import build

try:
    build(load(Path(__file__).resolve().parents[1] / "stacks" / f"{pulumi.get_stack()}.yaml"))
except SpecError as error:
    raise pulumi.RunError(str(error)) from None
