"""The composition root: a spec in, a target's resources out."""

from __future__ import annotations

from stackyard.spec import StackSpec
from stackyard_infra.targets import local

TARGETS = {"local": local.build}


def build(spec: StackSpec) -> None:
    """Register everything that `spec` asks for."""
    TARGETS[spec.environment.target](spec)
