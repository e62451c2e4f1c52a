"""What `stackyard plan` wants to know of the data: is it there, is it as promised, and how long does it take."""

from __future__ import annotations

import time
from pathlib import Path

from stackyard.data import checks, sources
from stackyard.data.checks import Violation
from stackyard.spec.models import ProjectSpec


def plan_data(project: ProjectSpec, folder: Path) -> tuple[int, float, list[Violation]]:
    """Read and check the spec's window: rows, seconds it took, violations. Raises DataError when it cannot be read."""
    started = time.perf_counter()
    frame = sources.read(project.data, folder, None)
    found = checks.violations(frame, project.data)
    return frame.height, time.perf_counter() - started, found
