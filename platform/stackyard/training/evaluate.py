"""How good a bundle is on another window.

The bundle's own frozen code and schema make the features, as in serving; only reading the rows is the checkout's.
"""

from __future__ import annotations

import json
from pathlib import Path

from stackyard.data import checks, code, features, sources
from stackyard.data.errors import DataError
from stackyard.data.features import FeatureSchema
from stackyard.spec.models import ProjectSpec, TaskSpec, WindowSpec
from stackyard.store import bundles
from stackyard.store.objects import Store
from stackyard.training import measures, predict, recipe


def evaluate(
    store: Store, bundle: str, project: ProjectSpec, project_folder: Path, window: WindowSpec, cache: Path
) -> dict[str, float]:
    """The figures of `bundle` on the rows of `window`, read and checked as `project` says.

    Raises DataError for rows that break the spec, BundleError for a bundle that must not be loaded.
    """
    frame = sources.read(project.data, project_folder, window)
    if violations := checks.violations(frame, project.data):
        raise DataError(f"{len(violations)} rules broken; the first: {violations[0]}", violations)
    folder = bundles.fetch(store, bundle, cache / "bundles")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    task = TaskSpec.model_validate_json((folder / "task.json").read_bytes())
    made = json.loads((folder / "features.json").read_bytes())
    function = code.load(code.unpack(store, manifest["code"], cache / "code"), made["function"])
    matrix = FeatureSchema.model_validate(made["schema"]).encode(features.compute(function, frame, project.data))
    model = predict.booster((folder / "model.ubj").read_bytes(), threads=project.training.threads)
    return measures.measure(task, recipe.labels(task, frame[task.label]), predict.outputs(model, matrix))
