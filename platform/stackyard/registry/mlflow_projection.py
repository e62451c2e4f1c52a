"""Runs and model versions as MLflow shows them: a projection, never the truth.

Projecting twice changes nothing: a run is found again by the tag `run_id`, a version by its bundle. MLflow being
away is one warning; training and promotion do not wait for it, and the projection can be made again from the store.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

ALIAS = "champion"
RUN_TAG, BUNDLE_TAG = "run_id", "bundle"
_log = logging.getLogger(__name__)
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


def project(
    tracking_uri: str,
    result: Mapping[str, Any],
    manifest: Mapping[str, Any] | None = None,
    lineage: Mapping[str, Any] | None = None,
    *,
    champion: bool = False,
) -> bool:
    """Show a run (`result.json`), and with its bundle's `manifest` and lineage a version of the model.

    `champion` also points the alias `champion` at that version. Returns whether it was done; it never raises.
    """
    try:
        client = _client(tracking_uri)
        name = str(manifest["model"]) if manifest else "runs without a bundle"
        run = _run(client, name, result, lineage or {})
        if manifest:
            version = _version(client, name, run, result)
            if champion:
                client.set_registered_model_alias(name, ALIAS, version)
    except Exception as error:  # noqa: BLE001  whatever a projection meets, it must not hurt what it shows
        _log.warning("MLflow does not show run %s: %s", result.get("run_id"), str(error).splitlines()[:1])
        return False
    return True


def follow(
    tracking_uri: str, model: str, aliases: Mapping[str, str | None], tags: Mapping[str, Mapping[str, str]]
) -> bool:
    """Point each alias at the version of its bundle, or at none, and tag the versions of bundles.

    `aliases`: alias to digest or None; `tags`: digest to tags. A bundle that MLflow does not show yet is passed over.
    Returns whether it was done; it never raises.
    """
    try:
        client = _client(tracking_uri)
        versions = {version.tags.get(BUNDLE_TAG): version for version in _versions(client, model)}
        for bundle, told in tags.items():
            if (version := versions.get(bundle)) is None:
                continue
            for name, value in told.items():
                if version.tags.get(name) != value:
                    client.set_model_version_tag(model, version.version, name, value)
        if versions:
            _point(client, model, {name: versions.get(bundle) for name, bundle in aliases.items()})
    except Exception as error:  # noqa: BLE001  whatever a projection meets, it must not hurt what it shows
        _log.warning("MLflow does not follow the releases of %s: %s", model, str(error).splitlines()[:1])
        return False
    return True


def _point(client: MlflowClient, model: str, wanted: Mapping[str, ModelVersion | None]) -> None:
    held = client.get_registered_model(model).aliases
    for alias, version in wanted.items():
        if version is None:
            if alias in held:
                client.delete_registered_model_alias(model, alias)
        elif str(held.get(alias)) != str(version.version):
            client.set_registered_model_alias(model, alias, str(version.version))


def _versions(client: MlflowClient, model: str) -> list[ModelVersion]:
    """Every version of `model`, from all pages."""
    found: list[ModelVersion] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name = '{model}'", page_token=token)
        found += page
        if not (token := page.token):
            return found


def _client(tracking_uri: str) -> MlflowClient:
    os.environ.update(_QUIET)  # read when MLflow is imported and at each request
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def _run(client: MlflowClient, name: str, result: Mapping[str, Any], lineage: Mapping[str, Any]) -> Run:
    """The run's MLflow run: found by its tag, or made; unfinished ones are finished."""
    experiment = client.get_experiment_by_name(name)
    number = experiment.experiment_id if experiment else client.create_experiment(name)
    found = client.search_runs([number], f"tags.{RUN_TAG} = '{result['run_id']}'", max_results=1)
    run = found[0] if found else client.create_run(number, tags=_tags(result), run_name=str(result["run_id"]))
    if run.info.status not in ("FINISHED", "FAILED"):
        _fill(client, run.info.run_id, result, lineage)
        done = result["status"] == "succeeded"
        client.set_terminated(run.info.run_id, "FINISHED" if done else "FAILED")
    return run


def _fill(client: MlflowClient, run: str, result: Mapping[str, Any], lineage: Mapping[str, Any]) -> None:
    from mlflow.entities import Metric, Param

    now = 0  # one time for all, so that a second projection logs the same points
    metrics = [
        Metric(f"{part}_{figure}", float(value), now, 0)
        for part, figures in result.get("metrics", {}).items()
        for figure, value in figures.items()
    ]
    if result.get("seconds") is not None:
        metrics.append(Metric("seconds", float(result["seconds"]), now, 0))
    told = {**lineage.get("parameters", {}), **{name: lineage[name] for name in _PARAMETERS if name in lineage}}
    client.log_batch(run, metrics=metrics, params=[Param(name, str(value)[:500]) for name, value in told.items()])


_PARAMETERS = ("seed", "workers", "threads", "rounds", "snapshot", "code", "commit", "dirty", "lock", "plan")


def _tags(result: Mapping[str, Any]) -> dict[str, str]:
    found = {RUN_TAG: result["run_id"], BUNDLE_TAG: result.get("bundle"), "reason": result.get("reason")}
    return {name: str(value) for name, value in found.items() if value}


def _version(client: MlflowClient, name: str, run: Run, result: Mapping[str, Any]) -> str:
    """The version that stands for the bundle: found by its tag, or made."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    bundle = str(result["bundle"])
    for version in _versions(client, name):
        if version.tags.get(BUNDLE_TAG) == bundle:
            return str(version.version)
    made = client.create_model_version(
        name, source=f"stackyard://bundles/{bundle}", run_id=run.info.run_id, tags={BUNDLE_TAG: bundle}
    )
    return str(made.version)
