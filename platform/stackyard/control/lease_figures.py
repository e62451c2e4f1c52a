"""Figures of leased clusters for the stack's Prometheus page, which knows nothing of leases: they are written down as
points in time, so that what is unsafe goes on growing on the page when nobody writes any more."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from stackyard.evacuation.freezing import write_whole
from stackyard.leasing import verbs

FILE = "leases.json"
"""Their file, in the stack's runtime folder."""


def write(folders: Sequence[Path], place: Path) -> None:
    """Put `{cluster: {open, ends, safe_until}}` of the clusters in `folders` at `place`, times in ISO 8601; with no
    clusters there is no file. A cluster that cannot be read is left out, and a full disk leaves what was there."""
    figures = {folder.name: found for folder in folders if (found := _figures(folder)) is not None}
    with suppress(OSError):
        if figures:
            write_whole(place, json.dumps(figures).encode())
        else:
            place.unlink(missing_ok=True)


def _figures(folder: Path) -> dict[str, Any] | None:
    try:
        _, told = verbs.status(folder)
    except Exception:  # noqa: BLE001  whatever is wrong with one, leases are looked after
        return None
    return {"open": told["state"] == "open", "ends": told["ends"], "safe_until": told["safe_until"] or told["opened"]}
