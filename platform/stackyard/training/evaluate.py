"""How good a bundle is on another window: `python -m stackyard.training.evaluate --help`.

The bundle's own frozen code and schema make the features, as in serving; only reading the rows is the checkout's.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import polars as pl

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
    return on_frame(store, bundle, project, frame, cache)


def on_frame(store: Store, bundle: str, project: ProjectSpec, frame: pl.DataFrame, cache: Path) -> dict[str, float]:
    """The figures of `bundle` on the rows of `frame`, its label among them."""
    folder = bundles.fetch(store, bundle, cache / "bundles")
    manifest = bundles.manifest(store, bundle)
    task = TaskSpec.model_validate_json((folder / "task.json").read_bytes())
    made = json.loads((folder / "features.json").read_bytes())
    function = code.load(code.unpack(store, manifest["code"], cache / "code"), made["function"])
    matrix = FeatureSchema.model_validate(made["schema"]).encode(features.compute(function, frame, project.data))
    model = predict.booster((folder / "model.ubj").read_bytes(), threads=project.training.threads)
    return measures.measure(task, recipe.labels(task, frame[task.label]), predict.outputs(model, matrix))


def main(argv: list[str]) -> int:
    """Print the figures of a bundle on a window as JSON."""
    from stackyard.spec import SpecError, load

    parser = argparse.ArgumentParser(prog="python -m stackyard.training.evaluate", description=__doc__)
    parser.add_argument("--store", required=True, help="the artifact store: a folder or URL")
    parser.add_argument("--bundle", required=True, help="the bundle's digest")
    parser.add_argument("--stack", required=True, type=Path, help="the stack file, which names the project")
    parser.add_argument("--window", required=True, help="first day and the day after the last, 2030-01-01..2030-02-01")
    given = parser.parse_args(argv)
    start, _, end = given.window.partition("..")
    try:
        spec = load(given.stack)
        window = WindowSpec.model_validate_json(json.dumps({"start": start, "end": end}))
        with tempfile.TemporaryDirectory(prefix="sy-evaluate-") as cache:
            store = Store.open(given.store)
            found = evaluate(store, given.bundle, spec.project, spec.project_folder, window, Path(cache))
    except (SpecError, DataError, bundles.BundleError, recipe.RecipeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(found, indent=2, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
