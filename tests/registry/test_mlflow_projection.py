"""MLflow shows what the store holds, once, and nobody minds when it is away."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stackyard.registry import mlflow_projection

RESULT: dict[str, Any] = {
    "run_id": "deliveries-1",
    "status": "succeeded",
    "reason": "",
    "bundle": "b" * 64,
    "metrics": {"test": {"auc": 0.75}, "train": {"auc": 0.9}},
    "seconds": 12.5,
}
MANIFEST = {"model": "deliveries", "snapshot": "s" * 64}
LINEAGE = {"parameters": {"max_depth": 3}, "seed": 7, "snapshot": "s" * 64}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    place = [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
            *place,
        ],
        cwd=folder,
        env={**os.environ, **quiet},
        stdout=(folder / "log").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        _wait_until_healthy(f"http://127.0.0.1:{port}/health", process, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 9)
        process.wait()


@pytest.mark.slow  # earns: that the calls are those a real MLflow server understands
def test_projecting_twice_shows_one_run_and_one_version_with_the_champion(server: str) -> None:
    from mlflow.tracking import MlflowClient

    for champion in (False, True, True):
        assert mlflow_projection.project(server, RESULT, MANIFEST, LINEAGE, champion=champion)
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("deliveries")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.data.metrics["test_auc"], run.data.params["max_depth"]) == ("FINISHED", 0.75, "3")
    (version,) = client.search_model_versions("name = 'deliveries'")
    assert client.get_model_version_by_alias("deliveries", "champion").version == version.version
    assert version.tags["bundle"] == RESULT["bundle"]
    told = {RESULT["bundle"]: {"gate": "passed"}, "f" * 64: {"gate": "refused"}}
    for aliases in ({"champion": RESULT["bundle"], "challenger": RESULT["bundle"]}, {"challenger": None}):
        assert mlflow_projection.follow(server, "deliveries", aliases, told)
    (version,) = client.search_model_versions("name = 'deliveries'")
    assert (list(client.get_registered_model("deliveries").aliases), version.tags["gate"]) == (["champion"], "passed")
    failed = {
        **RESULT,
        "run_id": "deliveries-2",
        "status": "failed",
        "bundle": None,
        "reason": "no data",
        "metrics": {},
    }
    assert mlflow_projection.project(server, failed)


def test_mlflow_being_away_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as closed, caplog.at_level(logging.WARNING, logger=mlflow_projection.__name__):
        closed.bind(("127.0.0.1", 0))
        assert not mlflow_projection.project(f"http://127.0.0.1:{closed.getsockname()[1]}", RESULT, MANIFEST, LINEAGE)
    assert len([record for record in caplog.records if record.name == mlflow_projection.__name__]) == 1


def _wait_until_healthy(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
