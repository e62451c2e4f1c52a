"""Whole runs on real Ray clusters, killed in every way a run can be."""

from __future__ import annotations

import itertools
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackyard.data import code, features
from stackyard.data.features import FeatureSchema
from stackyard.store import bundles, layout
from stackyard.training import predict
from tokenless import SERVICES, call

pytestmark = pytest.mark.slow  # earns: that Ray, killed anywhere, gives the same model and leaves nothing behind


_WORKERS = [
    pytest.param(1, id="one-worker", marks=pytest.mark.lifecycle),
    pytest.param(2, id="two-workers"),
]


@pytest.fixture(scope="module", params=_WORKERS)
def undisturbed(request: pytest.FixtureRequest, runs: Any) -> tuple[int, str]:
    """The number of workers, and a run that nothing happened to."""
    run_id = f"calm-{request.param}"
    process = runs.start(run_id, runs.project(workers=request.param))
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    assert runs.left_behind(run_id) == []
    return request.param, run_id


def test_a_run_ends_in_a_bundle_that_answers_as_its_golden_rows_say(
    runs: Any, undisturbed: tuple[int, str], tmp_path: Path
) -> None:
    result, spec = runs.result(undisturbed[1]), runs.project()
    folder = bundles.fetch(runs.store, result["bundle"], tmp_path)
    read = {path.stem: json.loads(path.read_bytes()) for path in folder.glob("*.json")}
    function = code.load(code.unpack(runs.store, read["manifest"]["code"], tmp_path), read["features"]["function"])
    schema = FeatureSchema.model_validate(read["features"]["schema"])
    model = predict.booster((folder / "model.ubj").read_bytes(), threads=1)
    answers = predict.answers(read["golden"]["inputs"], spec.data, function, schema, model)
    assert answers == read["golden"]["outputs"]
    assert len({tuple(row) for row in answers}) > 8
    assert set(read["inputs"]["columns"]) == set(features.before(spec.data))
    assert read["manifest"]["model_digest"] == result["model_digest"]
    lineage = read["lineage"]
    assert (lineage["run"], lineage["commit"], lineage["workers"]) == (result["run_id"], "c0ffee", undisturbed[0])
    assert result["metrics"]["test"]["auc"] > 0.8
    assert np.isclose(read["metrics"]["test"]["auc"], result["metrics"]["test"]["auc"])
    assert (folder / "card.md").read_text().startswith("# Model card: deliveries")
    assert runs.checkpoints(undisturbed[1]) == []


def test_a_run_that_is_interrupted_and_loses_a_worker_ends_in_the_same_model(
    runs: Any, undisturbed: tuple[int, str]
) -> None:
    workers, calm = undisturbed
    run_id, spec = f"rough-{workers}", runs.project(workers=workers)
    for number, status in _INTERRUPTIONS[workers]:
        process = _running(runs, run_id, spec)
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == status
        runs.wait_until_gone(lambda: runs.left_behind(run_id))
        assert not runs.store.exists(layout.run(run_id, "result.json"))
    process = _running(runs, run_id, spec)
    runs.kill_a_worker(process)
    newest = runs.checkpoints(run_id)[-1]
    runs.store.write(newest, runs.store.read(newest)[:-9] + b"corrupted")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert f"warning: checkpoint {newest.rpartition('/')[2]} is not used" in output
    assert runs.result(run_id)["model_digest"] == runs.result(calm)["model_digest"]
    assert runs.left_behind(run_id) == []


def test_the_intent_of_a_finished_run_is_answered_at_once(runs: Any, undisturbed: tuple[int, str]) -> None:
    process = runs.start(undisturbed[1], runs.project(workers=undisturbed[0]))
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, output.count("\n")) == (0, 1)


@pytest.mark.lifecycle
def test_a_retraining_that_is_killed_in_trial_and_final_ends_in_the_same_candidate(runs: Any) -> None:
    spec, asked = runs.project(workers=1), {"holdout": 14 * 86_400, "slices": ["carrier"]}
    calm = runs.start("again-calm", spec, **asked)
    output, _ = calm.communicate(timeout=180)
    assert calm.returncode == 0, output
    for stage in ("trial", "final"):
        process = runs.start("again-rough", spec, **asked)
        _written(runs, "again-rough", process, stage)
        process.kill()
        process.communicate(timeout=60)
        runs.wait_until_gone(lambda: runs.left_behind("again-rough"))
    process = runs.start("again-rough", spec, **asked)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    smooth, rough = (runs.result(name) for name in ("again-calm", "again-rough"))
    assert rough["model_digest"] == smooth["model_digest"]
    digests = [bundles.manifest(runs.store, found["trial"])["model_digest"] for found in (smooth, rough)]
    assert digests[0] == digests[1]
    assert rough["holdout"] == smooth["holdout"]
    assert rough["cpu_hours"] > 0


def test_no_grpc_port_of_a_runs_cluster_answers_without_its_token(runs: Any) -> None:
    """Earns: that a local user cannot run code through a training cluster, asked port by port while it trains."""
    process = _running(runs, "asked", runs.project(workers=1, rounds=20_000))
    try:
        ports = runs.listening("asked")
        refusing = dict.fromkeys(SERVICES, 0)
        for port, service in itertools.product(ports, SERVICES):
            code = call(f"127.0.0.1:{port}", f"/ray.rpc.{service}/{SERVICES[service]}")
            assert code in {"UNAUTHENTICATED", "UNIMPLEMENTED", "UNAVAILABLE", "INTERNAL"}, (port, service, code)
            refusing[service] += code == "UNAUTHENTICATED"
        served = ("InternalKVGcsService", "NodeManagerService", "ObjectManagerService", "CoreWorkerService")
        assert all(refusing[service] for service in served), refusing
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    runs.wait_until_gone(lambda: runs.left_behind("asked"))


_INTERRUPTIONS = {
    1: [(signal.SIGINT, 128 + signal.SIGINT), (signal.SIGKILL, -signal.SIGKILL)],
    2: [],
}
"""By number of workers: one of them is enough to show what a signal to the run itself does."""


def _running(runs: Any, run_id: str, spec: Any) -> Any:
    """A process of the run that has just written a checkpoint."""
    process = runs.start(run_id, spec)
    _written(runs, run_id, process)
    return process


def _written(runs: Any, run_id: str, process: Any, stage: str = "") -> None:
    """Wait until a checkpoint of `stage` is there that was not before."""
    prefix, before = layout.run(run_id, f"checkpoints/{stage}"), set(runs.checkpoints(run_id))
    runs.wait_for(lambda: {key for key in runs.checkpoints(run_id) if key.startswith(prefix)} - before, process)
