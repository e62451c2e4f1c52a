"""Rows in a bucket: listed and fetched with credentials from the environment, as every tool of that store does."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import polars as pl
import pytest

from stackyard.data import sources
from stackyard.data.errors import DataError
from stackyard.spec.models import ProjectSpec

LISTING = (
    '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>yard</Name>'
    "<IsTruncated>false</IsTruncated>{}</ListBucketResult>"
)
ENTRY = (
    "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    "<ETag>x</ETag><Size>{}</Size></Contents>"
)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """The objects of a bucket `yard` behind a server that speaks the two calls of S3 that a reader needs."""
    objects: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlparse(self.path)
            if "Credential=reader/" not in self.headers.get("Authorization", ""):
                return self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            query = parse_qs(url.query)
            if "list-type" in query:
                prefix = query.get("prefix", [""])[0]
                entries = (ENTRY.format(key, len(data)) for key, data in objects.items() if key.startswith(prefix))
                return self._answer(200, LISTING.format("".join(entries)).encode())
            return self._answer(200, objects[url.path.removeprefix("/yard/")])

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.send_header("ETag", '"x"')
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "reader",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
        }.items():
            monkeypatch.setenv(name, value)
        yield objects
        server.shutdown()


@pytest.mark.parametrize(
    ("where", "rows_found"),
    [
        pytest.param("s3://yard/orders", 40, id="prefix"),
        pytest.param("s3://yard/orders/2026-*/b.parquet", 20, id="glob"),
        pytest.param("s3://yard/orders/2026-01/a.parquet", 20, id="object"),
    ],
)
def test_a_buckets_parquet_is_read(
    change: Callable[..., ProjectSpec],
    folder: Path,
    rows: pl.DataFrame,
    bucket: dict[str, bytes],
    where: str,
    rows_found: int,
) -> None:
    for key, half in {"orders/2026-01/b.parquet": rows.tail(20), "orders/2026-01/a.parquet": rows.head(20)}.items():
        out = io.BytesIO()
        half.write_parquet(out)
        bucket[key] = out.getvalue()
    bucket["orders/_SUCCESS"] = bucket["other/c.parquet"] = b"no rows"
    found = sources.read(change(source={"parquet": where}).data, folder, None)
    assert found.height == rows_found
    assert found["ordered"].is_sorted()


def test_a_refusal_is_one_sentence_without_the_secret(
    change: Callable[..., ProjectSpec], folder: Path, bucket: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stranger")
    with pytest.raises(DataError, match="s3://yard/orders: ") as caught:
        sources.read(change(source={"csv": "s3://yard/orders"}).data, folder, None)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
