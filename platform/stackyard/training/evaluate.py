"""How good a bundle is on another window.

The bundle's own frozen code and schema make the features, as in serving; only reading the rows is the checkout's.
"""

from __future__ import annotations

from pathlib import Path

from stackyard.data import checks, sources
from stackyard.data.errors import DataError
from stackyard.spec.models import ProjectSpec, WindowSpec
from stackyard.store.objects import Store
from stackyard.training import measures, recipe
from stackyard.training.loaded import Loaded


def evaluate(
    store: Store, bundle: str, project: ProjectSpec, project_folder: Path, window: WindowSpec, cache: Path
) -> dict[str, float]:
    """The figures of `bundle` on the rows of `window`, read and checked as `project` says.

    Raises DataError for rows that break the spec, BundleError for a bundle that must not be loaded.
    """
    frame = sources.read(project.data, project_folder, window)
    if violations := checks.violations(frame, project.data):
        raise DataError(f"{len(violations)} rules broken; the first: {violations[0]}", violations)
    model = Loaded(store, bundle, cache, threads=project.training.threads)
    outputs = model.outputs(frame)
    shaped = outputs if model.task.type == "multiclass" else outputs[:, 0]
    return measures.measure(model.task, recipe.labels(model.task, frame[model.task.label]), shaped)
