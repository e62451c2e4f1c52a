"""The stack's metrics page: replicas merged and told apart, whoever is dead left out."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry, generate_latest

from stackyard.monitoring.endpoint import StackCollector, merged
from stackyard.monitoring.settings import EndpointSettings
from stackyard.store import releases
from stackyard.store.documents import public_text
from stackyard.store.objects import Store

PAGE = """# HELP stackyard_release_number Followed.
# TYPE stackyard_release_number gauge
stackyard_release_number 1.0
# HELP stackyard_requests_total Requests.
# TYPE stackyard_requests_total counter
stackyard_requests_total{code="200"} 7.0
# HELP python_info Not ours.
# TYPE python_info gauge
python_info 1.0
"""


class _Replica(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(PAGE.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def replica_port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Replica)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_replicas_are_merged_into_one_family_and_told_apart() -> None:
    (_, family) = merged({"1": PAGE, "2": PAGE})
    assert [(s.name, s.labels["replica"], s.value) for s in family.samples] == [
        ("stackyard_requests_total", "1", 7.0),
        ("stackyard_requests_total", "2", 7.0),
    ]


def test_the_page_names_the_release_and_counts_only_living_replicas(tmp_path: Path, replica_port: int) -> None:
    key = Ed25519PrivateKey.generate()
    store = Store.open(tmp_path / "store")
    releases.publish(store, releases.Release(model="m", number=1, champion="a" * 64, reason="r", created="t"), key)
    settings = EndpointSettings(
        stack="local",
        model="m",
        port=0,
        replica_ports=[replica_port, 9],
        store=str(tmp_path / "store"),
        trusted_keys=[public_text(key.public_key())],
    )
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StackCollector(settings))  # type: ignore[arg-type]
    page = generate_latest(registry).decode()
    assert "stackyard_replicas_up 1.0" in page
    names = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")]
    assert sorted(names) == sorted(set(names))  # a scraper refuses a family that comes twice
    assert f'stackyard_release_newest_number{{bundle="{"a" * 12}",model="m"}} 1.0' in page
    assert f'stackyard_requests_total{{code="200",replica="{replica_port}"}} 7.0' in page
