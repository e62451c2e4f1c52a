"""`python -m stackyard.monitoring.endpoint SETTINGS.json`: one page for Prometheus, for the whole stack.

Replicas come and go on a fixed list of ports; a scraper should not have to know. This page asks them all when it
is asked itself, labels what they say with `replica`, and adds the champion, the runs and HAProxy's own figures.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from stackyard.monitoring import leases
from stackyard.monitoring.settings import EndpointSettings
from stackyard.store import releases
from stackyard.store.documents import DocumentError
from stackyard.store.objects import Store

PATIENCE = 1.0
"""Seconds a replica has to answer a scrape; a dead one must not spoil the page."""


class StackCollector:
    """Gathers a stack's figures at each scrape."""

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        self._store = Store.open(settings.store)
        self._release: releases.Release | None = None

    def collect(self) -> Iterator[Metric]:
        """Every family of the stack, replicas merged."""
        settings = self._settings
        pages = asyncio.run(self._pages())
        replicas = {str(port): page for port, page in pages.items() if isinstance(port, int)}
        yield _gauge("stackyard_replicas_up", "Serving replicas that answer.", len(replicas))
        yield self._champion()
        yield from leases.families(settings.leases, dt.datetime.now(dt.UTC))
        yield from merged(replicas)
        if (page := pages.get(settings.haproxy_metrics or "")) is not None:
            yield from text_string_to_metric_families(page)

    async def _pages(self) -> dict[int | str, str]:
        addresses: dict[int | str, str] = {
            port: f"http://127.0.0.1:{port}/metrics" for port in self._settings.replica_ports
        }
        if self._settings.haproxy_metrics:
            addresses[self._settings.haproxy_metrics] = self._settings.haproxy_metrics
        async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
            pages = await asyncio.gather(*(_page(client, address) for address in addresses.values()))
        return {name: page for name, page in zip(addresses, pages, strict=True) if page is not None}

    def _champion(self) -> Metric:
        after = 0 if self._release is None else self._release.number
        try:
            newest = releases.newest(self._store, self._settings.model, self._settings.trusted_keys, after=after)
            self._release = newest or self._release
        except (OSError, DocumentError, ValueError):
            pass  # the store is away or holds something odd: the last known Release stays on the page
        family = GaugeMetricFamily(
            "stackyard_release_newest_number", "Number of the newest Release.", labels=["model", "bundle"]
        )
        if self._release is not None:
            family.add_metric([self._release.model, self._release.champion[:12]], self._release.number)
        return family


def merged(pages: dict[str, str]) -> Iterable[Metric]:
    """The families of several replicas' pages as one, each sample labelled with its replica."""
    families: dict[str, Metric] = {}
    for replica, page in pages.items():
        for family in text_string_to_metric_families(page):
            if not family.name.startswith("stackyard_"):
                continue
            whole = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                whole.add_sample(sample.name, {**sample.labels, "replica": replica}, sample.value)
    return families.values()


async def _page(client: httpx.AsyncClient, address: str) -> str | None:
    try:
        response = await client.get(address)
        return response.text if response.status_code == 200 else None
    except httpx.HTTPError:
        return None


def _gauge(name: str, text: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, text)
    family.add_metric([], value)
    return family


def main(path: str) -> int:
    """Serve `/metrics` on loopback until SIGTERM or SIGINT."""
    settings = EndpointSettings.model_validate_json(Path(path).read_bytes())
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StackCollector(settings))  # pyright: ignore[reportArgumentType]
    server, thread = start_http_server(settings.port, addr="127.0.0.1", registry=registry)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    server.shutdown()
    thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
