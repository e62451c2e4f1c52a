"""A project's code and data as files for people: sources as a training freezes them, rows as it would read them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from stackyard.data import code, sources
from stackyard.spec.models import ProjectSpec


def hand_out(project: ProjectSpec, project_folder: Path, target: Path) -> None:
    """Write `<project>/` and `data/<project>.parquet` into the empty folder `target`. Raises DataError, OSError.

    The rows are those of `data.window`. Caches, hidden files, data and links of the project's folder are left out.
    """
    archived, _ = code.archive(project_folder)
    with zipfile.ZipFile(io.BytesIO(archived)) as file:
        for entry in file.infolist():
            place = target / project.name / entry.filename
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.read(entry))
    frame = sources.read(project.data, project_folder, None)
    place = target / "data" / f"{project.name}.parquet"
    place.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(place, compression="zstd")
