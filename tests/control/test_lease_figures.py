"""From a cluster's folder to the stack's Prometheus page."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.core import CollectorRegistry, Metric

from lent import Lent, lent
from stackyard.control import lease_figures
from stackyard.evacuation.saving import Saver
from stackyard.monitoring import leases


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Lent]:
    made = lent(tmp_path)
    yield made
    made.clear()


def page(place: Path | None, later: float = 0.0) -> dict[str, float]:
    class Collector:
        def collect(self) -> Iterator[Metric]:
            return leases.families(place, dt.datetime.now(dt.UTC) + dt.timedelta(seconds=later))

    registry = CollectorRegistry()
    registry.register(Collector())  # pyright: ignore[reportArgumentType]
    found = {}
    for family in registry.collect():
        for sample in family.samples:
            assert sample.labels == {"cluster": "bench"}
            found[sample.name] = sample.value
    return found


def test_what_is_unsafe_grows_on_the_page_also_when_nobody_writes_any_more(bench: Lent, tmp_path: Path) -> None:
    Saver(bench.settings).save()
    lease_figures.write([bench.folder], tmp_path / "leases.json")
    found = page(tmp_path / "leases.json", later=100.0)
    assert found["stackyard_lease_open"] == 1.0
    assert 100.0 <= found["stackyard_lease_unsafe_seconds"] < 110.0
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=30, hours=-1)
    assert found["stackyard_lease_ends_timestamp_seconds"] == pytest.approx(ends.timestamp(), abs=30)


def test_what_was_never_saved_is_as_unsafe_as_it_is_old(bench: Lent, tmp_path: Path) -> None:
    lease_figures.write([bench.folder], tmp_path / "leases.json")
    assert page(tmp_path / "leases.json")["stackyard_lease_unsafe_seconds"] == pytest.approx(3600, abs=30)


@pytest.mark.parametrize("content", [None, "", "{", "{}"], ids=["no-file", "empty", "half", "no-clusters"])
def test_a_stack_without_leased_clusters_has_no_such_gauges(tmp_path: Path, content: str | None) -> None:
    place = tmp_path / "leases.json"
    if content is not None:
        place.write_text(content)
    assert page(place) == page(None) == {}
    lease_figures.write([], place)
    assert not place.exists()
