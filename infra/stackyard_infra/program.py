"""The composition root: a spec in, a target's resources out."""

from __future__ import annotations

import datetime as dt

from stackyard.spec import StackSpec, check_leases
from stackyard_infra.moment import extended, now
from stackyard_infra.targets import local

TARGETS = {"local": local.build}


def build(spec: StackSpec, at: dt.datetime | None = None) -> None:
    """Register everything that `spec` asks for. Raises SpecError for a lease that is over (`at`: the stack's now)."""
    check_leases(spec, at or now(spec), extended(spec))
    TARGETS[spec.environment.target](spec)
