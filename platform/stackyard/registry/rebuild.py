"""MLflow lost its database, or was never there: everything it should show is read from the store again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stackyard.registry import following, mlflow_projection
from stackyard.store import bundles, layout, releases
from stackyard.store.objects import DigestMismatchError, Store


def rebuild(store: Store, model: str, tracking_uri: str, trusted: list[str]) -> tuple[int, int]:
    """Show every run and version of `model` in MLflow, and have its aliases follow the Releases.

    Returns how many runs it shows, and how many it could not be made to show. Raises DocumentError for a Release
    that no key of `trusted` (public halves, base64) signed.
    """
    chain = releases.history(store, model, trusted)
    results = {
        run_id: found for run_id in _runs(store, model) if (found := _json(store, layout.run(run_id, "result.json")))
    }
    shown = 0
    for result in results.values():
        manifest, lineage = _bundle(store, result.get("bundle"))
        shown += mlflow_projection.project(tracking_uri, result, manifest, lineage)
    gates = {run_id: found for run_id in results if (found := _json(store, layout.gate(model, run_id)))}
    follow = following.projection(tracking_uri, model, chain, gates, results)["follow"]
    followed = mlflow_projection.follow(**follow)
    return shown, len(results) - shown + (not followed)


def _runs(store: Store, model: str) -> list[str]:
    parts = (key.split("/") for key in store.keys("runs"))
    ids = [part[1] for part in parts if len(part) == 3 and part[2] == "result.json"]
    return [run_id for run_id in ids if run_id.rsplit("-", 2)[0] == model]


def _bundle(store: Store, digest: str | None) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Manifest and lineage of a run's bundle; nothing when there is none, or none that is sound."""
    if digest is None:
        return None, None
    try:
        manifest = bundles.manifest(store, digest)
        entry = manifest["files"]["lineage.json"]
        lineage = json.loads(store.read(layout.bundle_file(digest, "lineage.json"), digest=entry["sha256"]))
    except (bundles.BundleError, DigestMismatchError, KeyError, ValueError):
        return None, None
    return manifest, lineage


def _json(store: Store, key: str) -> Mapping[str, Any]:
    try:
        found = json.loads(store.read(key))
    except (KeyError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
