"""`stackyard data`: check the project's data, list its snapshots."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from stackyard.cli.failures import Failure
from stackyard.cli.stack import find, open_store, spec
from stackyard.data import checks, code, features, snapshots, sources
from stackyard.data.errors import DataError, blame

if TYPE_CHECKING:
    import polars as pl

    from stackyard.spec import StackSpec


def check(stack: str, *, as_json: bool) -> None:
    """Read the window, check every row and build its features. Raises Failure with all violations in one table."""
    found = spec(stack)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what the project prints is none of our output
            frame = sources.read(found.project.data, found.project_folder, None)
            violations = checks.violations(frame, found.project.data)
            if not violations:
                _features(found, frame)
    except DataError as error:
        raise Failure(str(error)) from None
    if as_json:
        print(json.dumps({"rows": frame.height, "violations": [vars(violation) for violation in violations]}))
    elif violations:
        Console(stderr=True).print(checks.table(violations))
    else:
        print(f"data: {frame.height} rows, {frame.width} columns, all as the spec says")
    if violations:
        raise Failure(f"the data breaks {len(violations)} of the spec's rules in {frame.height} rows")


def _features(found: StackSpec, frame: pl.DataFrame) -> None:
    project, folder = found.project, found.project_folder
    function = code.load(folder, project.features.function)
    try:
        features.compute(function, frame, project.data)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"features.function: {blame(error, folder)}") from error


def listing(stack: str) -> list[dict[str, Any]]:
    """The snapshots of a stack's store, as plain data."""
    return [
        {"digest": snapshot.digest, "rows": snapshot.manifest["rows"], "time": snapshot.manifest["time"]}
        for snapshot in snapshots.listing(open_store(find(stack)))
    ]


def show(stack: str, *, as_json: bool) -> None:
    """Print the snapshots."""
    found = listing(stack)
    if as_json:
        print(json.dumps(found))
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("snapshot", "rows", "time"):
        table.add_column(heading, header_style="dim")
    for entry in found:
        span = f"{entry['time']['first']} to {entry['time']['last']}"
        table.add_row(entry["digest"][:12], str(entry["rows"]), span)
    Console().print(table)
