"""A small sound bundle, made as training makes one, and the pieces that serve it."""

from __future__ import annotations

import datetime as dt
import json
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stackyard.data import code, features
from stackyard.spec.models import ColumnSpec, DataSpec, TaskSpec
from stackyard.store import bundles, layout, releases
from stackyard.store.documents import public_text
from stackyard.store.keys import ensure_token
from stackyard.store.objects import Store, sha256
from stackyard.store.releases import Release

CHECKOUT = Path(__file__).parents[2]

FEATURES = """
import polars as pl

def build(frame):
    return frame.select(
        pl.col("departs").dt.hour().alias("hour"),
        "carrier",
        "distance",
        (pl.col("wind").fill_null(0.0) * 2).alias("gust"),
        pl.col("holiday"),
    )
"""

COLUMNS = {
    "departs": ColumnSpec(type="datetime", known="before"),
    "carrier": ColumnSpec(type="string", known="before", categories=("AA", "UA", "ZZ")),
    "distance": ColumnSpec(type="integer", known="before", minimum=0),
    "wind": ColumnSpec(type="float", known="before", nullable=True),
    "holiday": ColumnSpec(type="boolean", known="before"),
}

TASKS = {
    "binary": TaskSpec(type="binary", label="late"),
    "multiclass": TaskSpec(type="multiclass", label="late", classes=("early", "on time", "late")),
    "regression": TaskSpec(type="regression", label="late"),
}

_OBJECTIVES = {
    "binary": {"objective": "binary:logistic"},
    "multiclass": {"objective": "multi:softprob", "num_class": 3},
    "regression": {"objective": "reg:squarederror"},
}


def row(index: int = 0) -> dict[str, Any]:
    """A request row that every model here answers."""
    return {
        "departs": f"2013-03-{1 + index % 28:02d}T{index % 24:02d}:30:00Z",
        "carrier": ("AA", "UA", "ZZ")[index % 3],
        "distance": 100 + 37 * index % 4000,
        "wind": None if index % 5 == 0 else index % 30 * 1.5,
        "holiday": index % 7 == 0,
    }


@dataclass
class Yard:
    """A store with a signing key, and bundles to put into it."""

    folder: Path
    model: str = "delays"
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def __post_init__(self) -> None:
        self.store = Store.open(self.folder / "store")
        self.project = self.folder / "project"
        self.project.mkdir()
        (self.project / "rows.py").write_text(FEATURES)
        self.archive, self.code = code.archive(self.project)
        self.store.create(layout.code_archive(self.code), self.archive)
        self.token = ensure_token(self.folder / "labels-token")

    @property
    def trusted(self) -> tuple[str, ...]:
        return (public_text(self.key.public_key()),)

    def files(self, task: str = "binary", seed: int = 0, function: str = "rows:build") -> dict[str, bytes]:
        """The files of a bundle of a small model."""
        data = DataSpec.model_construct(time="departs", columns=COLUMNS)
        rows = [row(index) for index in range(200)]
        built = features.compute(code_function(self, function), features.request_frame(rows, COLUMNS), data)
        schema = features.FeatureSchema.fit(built)
        matrix = schema.encode(built)
        random = np.random.default_rng(seed)
        label = {
            "binary": (matrix[:, 0] + random.normal(0, 4, 200) > 12).astype(int),
            "multiclass": random.integers(0, 3, 200),
            "regression": matrix[:, 2] / 100 + random.normal(0, 1, 200),
        }[task]
        booster = xgboost.train(
            {"max_depth": 4, "seed": seed, "nthread": 1, **_OBJECTIVES[task]}, xgboost.DMatrix(matrix, label), 20
        )
        golden = rows[:16]
        outputs = np.asarray(booster.inplace_predict(matrix[:16]), dtype=np.float64).reshape(16, -1)
        described = {name: column.model_dump(mode="json") for name, column in COLUMNS.items()}
        documents: dict[str, Any] = {
            "task": TASKS[task].model_dump(mode="json"),
            "inputs": {"time": "departs", "columns": described},
            "features": {"function": function, "schema": schema.model_dump(mode="json")},
            "golden": {"inputs": golden, "outputs": outputs.tolist()},
            "metrics": {},
            "reference": {},
            "lineage": {},
        }
        return {
            "model.ubj": bytes(booster.save_raw("ubj")),
            "card.md": b"# a model",
            **{f"{name}.json": json.dumps(value).encode() for name, value in documents.items()},
        }

    def freeze(self, source: str) -> str:
        """Another code archive, with these features; returns its digest."""
        folder = self.folder / f"project-{sha256(source.encode())[:8]}"
        folder.mkdir(exist_ok=True)
        (folder / "rows.py").write_text(source)
        return code.publish(self.store, folder)

    def publish(self, files: dict[str, bytes] | None = None, frozen: str | None = None, **choice: Any) -> str:
        """Publish a bundle, with the code archive `frozen`; returns its digest."""
        files = self.files(**choice) if files is None else files
        facts = {
            "model": self.model,
            "model_digest": sha256(files.get("model.ubj", b"")),
            "code": frozen or self.code,
            "snapshot": "0" * 64,
        }
        return bundles.publish(self.store, files, facts)

    def release(self, digest: str, *arms: releases.Arm, **more: Any) -> int:
        """Append a Release with champion `digest` and challengers `arms`; returns its number."""
        last = releases.newest(self.store, self.model, self.trusted)
        number = last.number + 1 if last else 1
        created = dt.datetime(2026, 1, 1, tzinfo=dt.UTC).isoformat()
        facts = {"number": number, "champion": digest, "reason": "a test", "created": created}
        release = Release(model=self.model, arms=arms, **facts, **more)
        assert releases.publish(self.store, release, self.key)
        return number

    def arguments(self, ports: list[int], **limits: Any) -> dict[str, Any]:
        """What a replica is started with."""
        return {
            "model": self.model,
            "store": self.store.url,
            "trusted_keys": list(self.trusted),
            "cache": str(self.folder / "cache"),
            "spool": str(self.folder / "spool"),
            "labels_token_path": str(self.folder / "labels-token"),
            "ports": ports,
            "limits": {"drain": 2.0, **limits},
        }


def pick_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for entry in sockets:
            entry.bind(("127.0.0.1", 0))
        return [entry.getsockname()[1] for entry in sockets]
    finally:
        for entry in sockets:
            entry.close()


def code_function(yard: Yard, path: str) -> Any:
    """The feature function, loaded as a replica loads it."""
    return code.load(code.unpack(yard.store, yard.code, yard.folder / "made"), path)


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """A store of its own for one test."""
    return Yard(tmp_path)


@pytest.fixture(scope="module")
def shared_yard(tmp_path_factory: pytest.TempPathFactory) -> Yard:
    """One store for all tests of a module; they only read what others published."""
    return Yard(tmp_path_factory.mktemp("yard"))


@pytest.fixture(scope="session")
def sample() -> Any:
    """`sample(index)`: a request row."""
    return row


@pytest.fixture(scope="session")
def columns() -> dict[str, ColumnSpec]:
    """The named inputs of the bundles made here."""
    return COLUMNS


@pytest.fixture(scope="session")
def free_ports() -> Any:
    """`free_ports(n)`: n ports that were free a moment ago."""
    return pick_ports


@pytest.fixture(scope="session")
def load() -> Any:
    """`load(url, body, ...)`: starts the load generator in a process of its own."""

    def start(url: str, body: dict[str, Any], **options: Any) -> subprocess.Popen[str]:
        arguments = [f"--{name}={value}" for name, value in options.items()]
        command = [sys.executable, str(CHECKOUT / "benchmarks" / "serving_load.py"), url, json.dumps(body), *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    return start
