"""Looking at a running stack from outside: process table, replicas, metrics, store and journal, each on its own.

Whatever is away is reported as away; nothing here waits for more than a second, and nothing changes anything.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from stackyard.cli.failures import Failure
from stackyard.cli.stack import StackCard, open_store
from stackyard.store import bundles, layout, releases
from stackyard.store.documents import DocumentError

PATIENCE = 1.0


@dataclass(frozen=True)
class Traffic:
    """Requests over the last moments; latencies in seconds, from the replicas' own histograms."""

    total: float
    per_second: float | None
    p50: float | None
    p99: float | None
    errors: float


def processes(card: StackCard) -> list[dict[str, Any]]:
    """Each expected process: state, pid, age in seconds, memory in bytes, log."""
    living: dict[str, psutil.Process] = {}
    for process in psutil.process_iter(["status"]):
        try:
            tags = process.environ()
        except psutil.Error:
            continue
        if tags.get("STACKYARD_STACK_ID") != card.stack_id or process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        name = tags.get("STACKYARD_PROCESS", "")
        if name not in living or process.create_time() < living[name].create_time():
            living[name] = process
    return [_process(entry.name, entry.log, living.get(entry.name)) for entry in card.processes]


def _process(name: str, log: str, process: psutil.Process | None) -> dict[str, Any]:
    if process is not None:
        try:
            return {
                "name": name,
                "state": "stopped" if process.status() == psutil.STATUS_STOPPED else "running",
                "pid": process.pid,
                "seconds": round(time.time() - process.create_time()),
                "memory_bytes": process.memory_info().rss,
                "log": log,
            }
        except psutil.Error:
            pass
    return {"name": name, "state": "down", "pid": None, "log": log}


def replicas(card: StackCard) -> list[dict[str, Any]]:
    """Replicas that answer on the stack's ports: port, ready, and the bundle they serve."""
    found = []
    with httpx.Client(timeout=PATIENCE, trust_env=False) as client:
        for port in card.replica_ports:
            try:
                ready = client.get(f"http://127.0.0.1:{port}/v2/health/ready").status_code == 200
                facts = client.get(f"http://127.0.0.1:{port}/v2").json()
            except (httpx.HTTPError, ValueError):
                continue
            found.append({"port": port, "ready": ready, **facts})
    return found


def champion(card: StackCard) -> dict[str, Any] | None:
    """The live Release and what its bundle's manifest and metrics say; None before the first."""
    try:
        store = open_store(card)
        release = releases.newest(store, card.model, card.public_keys)
    except (DocumentError, Failure) as error:
        return {"error": str(error)}
    if release is None:
        return None
    facts: dict[str, Any] = release.model_dump(mode="json")
    try:
        manifest = bundles.manifest(store, release.champion)
        entry = manifest["files"]["metrics.json"]
        data = store.read(layout.bundle_file(release.champion, "metrics.json"), digest=entry["sha256"])
        facts |= {"metrics": json.loads(data), "snapshot": manifest.get("snapshot"), "code": manifest.get("code")}
    except (bundles.BundleError, KeyError, ValueError) as error:
        facts["error"] = f"the champion's bundle: {error}"
    return facts


def journal(card: StackCard) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The newest decisions and the runs, newest first; empty while the database is away."""
    from sqlalchemy.exc import SQLAlchemyError

    from stackyard.control.journal import Journal

    path = card.database.removeprefix("sqlite:///")
    if card.database.startswith("sqlite") and not Path(path).exists():
        return [], []
    book = Journal(card.database)
    try:
        decisions = [
            {
                "topic": row.topic,
                "kind": row.kind,
                "reason": row.reason,
                "since": row.first_seen,
                "last_seen": row.last_seen,
            }
            for row in book.decisions(card.model, limit=40)
        ]
        runs = [
            {
                "run_id": row.run_id,
                "number": row.number,
                "created": row.created,
                "log": str(Path(card.state) / "logs" / "runs" / f"{row.run_id}.log"),
                **progress(card, row.run_id),
            }
            for row in reversed(book.runs(card.model))
        ]
        return decisions, runs
    except SQLAlchemyError:
        return [], []
    finally:
        book.close()


def progress(card: StackCard, run_id: str) -> dict[str, Any]:
    """How far a run is: its result when it has one, else what it last said."""
    try:
        store = open_store(card)
    except Failure:
        return {"state": "unknown"}
    for name in ("result.json", "progress.json"):
        try:
            found = json.loads(store.read(layout.run(run_id, name)))
        except (KeyError, ValueError):
            continue
        return {"state": found.pop("status", "running"), **found}
    return {"state": "starting"}


def traffic(card: StackCard, moment: float = 0.5) -> Traffic | None:
    """Rate and latency from two looks at the metrics page, `moment` seconds apart; None when it is away."""
    first = _page(card)
    if first is None:
        return None
    started = time.monotonic()
    time.sleep(moment)
    second = _page(card) or first
    count, before = _requests(second), _requests(first)
    passed = time.monotonic() - started
    return Traffic(
        total=count,
        per_second=max(0.0, count - before) / passed,
        p50=_quantile(second, 0.50),
        p99=_quantile(second, 0.99),
        errors=_requests(second, errors=True),
    )


Samples = list[tuple[str, dict[str, str], float]]


def _page(card: StackCard) -> Samples | None:
    try:
        text = httpx.get(card.addresses["metrics"], timeout=2 * PATIENCE, trust_env=False).text
    except (httpx.HTTPError, KeyError):
        return None
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def _requests(samples: Samples, *, errors: bool = False) -> float:
    return sum(
        value
        for name, labels, value in samples
        if name == "stackyard_requests_total"
        and labels.get("asked") == "prediction"
        and (not errors or labels.get("code", "").startswith("5"))
    )


def _quantile(samples: Samples, q: float) -> float | None:
    """Upper bound of the bucket that holds quantile `q`, over all replicas."""
    buckets: dict[float, float] = {}
    for name, labels, value in samples:
        if name == "stackyard_request_duration_seconds_bucket":
            edge = float(labels["le"])
            buckets[edge] = buckets.get(edge, 0.0) + value
    total = buckets.get(float("inf"), 0.0)
    return next((edge for edge in sorted(buckets) if total and buckets[edge] >= q * total), None)
