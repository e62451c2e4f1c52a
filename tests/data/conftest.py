"""A tiny project about deliveries, written to a folder, for every test of data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from stackyard.spec.models import ProjectSpec
from stackyard.spec.plain import load as from_plain
from stackyard.store.objects import Store

SOURCE = Path(__file__).with_name("orders.txt").read_text()
"""The source function, as text: tests write it to folders, and some change it."""


FEATURES = """
import polars as pl

def build(frame):
    return frame.select("weight", "items", "shop", "gift", pl.col("ordered").dt.hour().alias("hour"))
"""

PLAIN: dict[str, Any] = {
    "name": "deliveries",
    "task": {"type": "binary", "label": "late"},
    "data": {
        "source": {"python": "orders:read"},
        "time": "ordered",
        "window": {"start": "2026-01-01", "end": "2026-01-11"},
        "columns": {
            "ordered": {"type": "datetime", "known": "before"},
            "weight": {"type": "float", "known": "before", "minimum": 0, "maximum": 1000},
            "items": {"type": "integer", "known": "before", "minimum": 0},
            "shop": {"type": "string", "known": "before", "categories": ["north", "south", "west"]},
            "gift": {"type": "boolean", "known": "before"},
            "note": {"type": "string", "known": "before", "nullable": True},
            "minutes": {"type": "float", "known": "after", "nullable": True},
            "late": {"type": "boolean", "known": "after"},
        },
    },
    "features": {"function": "inputs:build"},
}


def spec(**data: Any) -> ProjectSpec:
    """The project, with fields of `data` changed."""
    return from_plain(ProjectSpec, {**PLAIN, "data": {**PLAIN["data"], **data}})


@pytest.fixture
def project() -> ProjectSpec:
    """The project as it should be."""
    return spec()


@pytest.fixture
def change() -> Callable[..., ProjectSpec]:
    """Makes the project with fields of `data` changed."""
    return spec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The project's folder."""
    made = tmp_path / "deliveries"
    made.mkdir()
    (made / "orders.py").write_text(SOURCE)
    (made / "inputs.py").write_text(FEATURES)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store in a folder."""
    return Store.open(tmp_path / "store")


@pytest.fixture
def rows() -> pl.DataFrame:
    """The rows the source returns for the whole window."""
    from datetime import UTC, datetime

    names: dict[str, Any] = {}
    exec(SOURCE, names)
    return names["read"](datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 11, tzinfo=UTC))
