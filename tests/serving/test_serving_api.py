"""What one replica answers, asked in process: no port, no Ray."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackyard.data import code
from stackyard.serving import model as models
from stackyard.serving.api import Api
from stackyard.serving.batching import Batcher, Logged
from stackyard.serving.metrics import Metrics
from stackyard.serving.settings import Limits


@dataclass
class FakeProto:
    """granian's side of one request."""

    body: bytes
    chunk: int = 1 << 20
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    answer: bytes = b""

    async def __call__(self) -> bytes:
        return self.body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.body), self.chunk):
            yield self.body[start : start + self.chunk]

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        assert self.status == 0, "answered twice"
        self.status, self.headers, self.answer = status, dict(headers), body


@dataclass
class Service:
    """An Api with its thread, and a way to ask it."""

    api: Api
    logged: list[Logged]
    loop: asyncio.AbstractEventLoop

    def ask(self, method: str, path: str, body: Any = b"", *, chunked: bool = False, **headers: Any) -> FakeProto:
        """One request; `body` is sent as it is, or as JSON."""
        return self.loop.run_until_complete(self.send(method, path, body, chunked=chunked, **headers))

    async def send(
        self, method: str, path: str, body: Any = b"", *, chunked: bool = False, **headers: str
    ) -> FakeProto:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {
            "content-type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        if not chunked:
            sent.setdefault("content-length", str(len(raw)))
        proto = FakeProto(raw, chunk=1000)
        await self.api.__rsgi__(SimpleNamespace(proto="http", method=method, path=path, headers=sent), proto)
        return proto

    def predict(self, *rows: Any, **headers: Any) -> FakeProto:
        return self.ask("POST", "/predict", {"instances": list(rows)}, **headers)


def loaded(yard: Any, task: str) -> models.Model:
    """The model of a fresh bundle, loaded as a replica does after its trial."""
    from stackyard.store import bundles

    digest = yard.publish(task=task)
    folder = bundles.fetch(yard.store, digest, yard.folder / "cache")
    return models.load(folder, digest, code.unpack(yard.store, yard.code, yard.folder / "code"))


@pytest.fixture(scope="module")
def open_service(shared_yard: Any) -> Iterator[Callable[..., Service]]:
    """`open_service(task, **limits)`; services of one module share one loop."""
    loop, batchers = asyncio.new_event_loop(), []

    def build(task: str | None = "binary", **limits: Any) -> Service:
        bounds, metrics, logged = Limits.model_validate({"deadline": 20.0, **limits}), Metrics(), []
        batcher = Batcher(bounds.queue, metrics, logged.append)
        batcher.model = loaded(shared_yard, task) if task else None
        batcher.start()
        batchers.append(batcher)
        return Service(Api(shared_yard.model, bounds, batcher, metrics), logged, loop)

    yield build
    for batcher in batchers:
        batcher.stop()
    loop.close()


@pytest.fixture(scope="module")
def service(open_service: Callable[..., Service]) -> Service:
    return open_service()


@pytest.mark.parametrize(
    ("task", "keys"),
    [
        pytest.param("binary", {"probability"}, id="binary"),
        pytest.param("multiclass", {"label", "probabilities"}, id="multiclass"),
        pytest.param("regression", {"value"}, id="regression"),
    ],
)
def test_each_task_answers_in_its_own_words_and_both_protocols_agree(
    open_service: Callable[..., Service], sample: Any, task: str, keys: set[str]
) -> None:
    service = open_service(task)
    rows = [sample(index) for index in range(3)]
    answer = service.predict(*rows)
    told = json.loads(answer.answer)
    assert answer.status == 200 and [set(row) for row in told["predictions"]] == [keys] * 3
    inferred = service.ask("POST", "/v2/models/delays/infer", {"id": "mine", "inputs": tensors(rows)})
    found = json.loads(inferred.answer)
    assert (inferred.status, found["id"], found["model_version"]) == (200, "mine", told["bundle"])
    first = found["outputs"][0]
    assert first["data"] == [row[first["name"]] for row in told["predictions"]]
    document = json.loads(service.ask("GET", "/openapi.json").answer)
    schema = {"$ref": "#/components/schemas/PredictResponse", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(told)
    asked = {"$ref": "#/components/schemas/PredictRequest", "components": document["components"]}
    jsonschema.Draft202012Validator(asked).validate({"instances": rows})


def tensors(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`rows` as Open Inference Protocol inputs."""
    types = {"departs": "BYTES", "carrier": "BYTES", "distance": "INT64", "wind": "FP64", "holiday": "BOOL"}
    return [
        {"name": name, "shape": [len(rows)], "datatype": types[name], "data": [row[name] for row in rows]}
        for name in types
    ]


BROKEN = {
    "not json": (b"{", 400, ""),
    "empty": (b"", 400, ""),
    "not utf-8": (b'{"instances": "\xff"}', 400, ""),
    "nan": (b'{"instances": [{"wind": NaN}]}', 400, ""),
    "twice": (b'{"instances": [], "instances": []}', 400, ""),
    "deep": (b"[" * 50_000, 400, ""),
    "deep in a field": (b'{"instances": ' + b"[" * 40 + b"]" * 40 + b"}", 400, ""),
    "half a surrogate": (b'{"instances": [{"carrier": "\\ud800"}]}', 400, ""),
    "digits without end": (b'{"instances": [' + b"9" * 5000 + b"]}", 400, ""),
    "a list": (b"[]", 422, ""),
    "no instances": (b"{}", 422, "instances"),
    "another field": (b'{"rows": []}', 422, "rows"),
    "none": (b'{"instances": []}', 422, "instances"),
    "not a row": (b'{"instances": [1]}', 422, "instances[0]"),
}


@pytest.mark.parametrize(("body", "status", "path"), BROKEN.values(), ids=BROKEN)
def test_a_body_that_is_no_request_is_refused_with_its_place(
    service: Service, body: bytes, status: int, path: str
) -> None:
    answer = service.ask("POST", "/predict", body)
    told = json.loads(answer.answer)
    assert answer.status == status
    assert [problem["path"] for problem in told.get("problems", [])] == ([path] if status == 422 else [])


@pytest.mark.parametrize(
    ("field_", "value"),
    [
        pytest.param("distance", "far", id="text for a number"),
        pytest.param("distance", 1.5, id="fraction for an integer"),
        pytest.param("distance", True, id="boolean for an integer"),
        pytest.param("distance", 1 << 70, id="beyond 64 bits"),
        pytest.param("distance", None, id="null where none may be"),
        pytest.param("carrier", 7, id="number for text"),
        pytest.param("holiday", "yes", id="text for a boolean"),
        pytest.param("departs", "tomorrow", id="no date"),
        pytest.param("colour", "red", id="unknown"),
    ],
)
def test_a_wrong_field_is_named_with_its_row_in_either_protocol(
    service: Service, sample: Any, field_: str, value: Any
) -> None:
    rows = [sample(0), sample(1), {**sample(2), field_: value}]
    answer = service.predict(*rows)
    assert answer.status == 422
    assert json.loads(answer.answer)["problems"][0]["path"] == f"instances[2].{field_}"
    if field_ != "colour":
        place = list(sample(0)).index(field_)
        answer = service.ask("POST", "/v2/models/delays/infer", {"inputs": tensors(rows)})
        assert (answer.status, json.loads(answer.answer)["problems"][0]["path"]) == (422, f"inputs[{place}].data[2]")


def test_a_missing_field_is_named(service: Service, sample: Any) -> None:
    row = sample(1)
    del row["carrier"]
    assert json.loads(service.predict(row).answer)["problems"][0]["path"] == "instances[0].carrier"


TENSORS = {
    "not a list": (lambda t: {"name": 1}, "inputs"),
    "unknown name": (lambda t: [{**t[0], "name": "colour"}], "inputs[0].name"),
    "given twice": (lambda t: [t[0], t[0]], "inputs[1].name"),
    "wrong datatype": (lambda t: [{**t[0], "datatype": "FP64"}], "inputs[0].datatype"),
    "wrong shape": (lambda t: [{**t[0], "shape": [9]}], "inputs[0].shape"),
    "shape of booleans": (lambda t: [{**t[0], "shape": [True, 1]}], "inputs[0].shape"),
    "uneven rows": (lambda t: [t[0], {**t[1], "shape": [1], "data": t[1]["data"][:1]}], "inputs[1].data"),
    "no rows": (lambda t: [{**t[0], "shape": [0], "data": []}], "inputs"),
}


@pytest.mark.parametrize(("change", "path"), TENSORS.values(), ids=TENSORS)
def test_a_wrong_tensor_is_named(service: Service, sample: Any, change: Any, path: str) -> None:
    body = {"inputs": change(tensors([sample(0), sample(1)]))}
    answer = service.ask("POST", "/v2/models/delays/infer", body)
    assert (answer.status, json.loads(answer.answer)["problems"][0]["path"]) == (422, path)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        pytest.param("GET", "/predict", {}, 405, id="reading what is asked"),
        pytest.param("POST", "/metrics", {}, 405, id="asking what is read"),
        pytest.param("GET", "/", {}, 404, id="no page"),
        pytest.param("GET", "/v2/models/", {}, 404, id="no name"),
        pytest.param("GET", "/v2/models/other", {}, 404, id="another model"),
        pytest.param("POST", "/predict", {"content_type": "text/plain"}, 415, id="another content type"),
        pytest.param("POST", "/predict", {"content_length": "70000"}, 413, id="too long by its header"),
        pytest.param("POST", "/predict", {"content_length": "-1"}, 413, id="a length that is none"),
    ],
)
def test_what_is_not_a_prediction_is_told_apart(
    service: Service, method: str, path: str, headers: dict[str, Any], status: int
) -> None:
    answer = service.ask(method, path, b"{}", **headers)
    assert answer.status == status and "error" in json.loads(answer.answer)


def test_a_body_without_a_length_is_cut_off_at_the_limit(service: Service) -> None:
    assert service.ask("POST", "/predict", b" " * (66 << 10), chunked=True).status == 413
    assert service.ask("POST", "/predict", b" " * 100, chunked=True).status == 400


def test_too_many_rows_are_refused_by_number(open_service: Callable[..., Service], sample: Any) -> None:
    answer = open_service(rows_limit=2).predict(sample(0), sample(1), sample(2))
    assert answer.status == 422 and "at most 2" in json.loads(answer.answer)["error"]


def test_a_well_formed_request_id_is_kept_and_any_other_is_replaced(service: Service, sample: Any) -> None:
    kept = service.predict(sample(0), x_request_id="order-4711.a")
    assert kept.headers["x-request-id"] == json.loads(kept.answer)["request_id"] == "order-4711.a"
    for odd in ("short", "with space here", "x" * 65, "a\r\nb-header"):
        assert service.predict(sample(0), x_request_id=odd).headers["x-request-id"] != odd
    assert service.api.batcher.model is not None
    assert kept.headers["x-stackyard-bundle"] == service.api.batcher.model.bundle
    assert any(("order-4711.a", 0) in batch.ids for batch in service.logged)


def test_without_a_model_it_lives_and_is_not_ready(open_service: Callable[..., Service], sample: Any) -> None:
    service = open_service(None)
    assert service.ask("GET", "/v2/health/live").status == 200
    for path in ("/v2/health/ready", "/v2/models/delays", "/v2/models/delays/ready", "/openapi.json"):
        assert service.ask("GET", path).status == 503
    answer = service.predict(sample(0))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert service.ask("GET", "/v2").status == 200


def test_a_draining_replica_fails_its_readiness_and_still_answers(
    open_service: Callable[..., Service], sample: Any
) -> None:
    service = open_service()
    service.api.draining = True
    assert service.ask("GET", "/v2/health/ready").status == 503
    assert service.ask("GET", "/v2/health/live").status == 200
    assert service.predict(sample(0)).status == 200


class Gate:
    """A model's prediction that waits until it is let through."""

    def __init__(self, model: models.Model) -> None:
        import threading

        self.model, self.open = model, threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def predict(self, frame: Any) -> Any:
        assert self.open.wait(20)
        return self.model.predict(frame)


def test_a_full_replica_refuses_one_more_at_once_and_answers_the_rest(
    open_service: Callable[..., Service], sample: Any
) -> None:
    service = open_service(queue=3)
    gate: Any = Gate(service.api.batcher.model)  # type: ignore[arg-type]
    service.api.batcher.model = gate
    body = {"instances": [sample(0)]}

    async def crowd() -> list[FakeProto]:
        held = [asyncio.ensure_future(service.send("POST", "/predict", body)) for _ in range(3)]
        while service.api.batcher.held < 3:  # noqa: ASYNC110
            await asyncio.sleep(0)
        refused = await service.send("POST", "/predict", body)
        gate.open.set()
        return [refused, *await asyncio.gather(*held)]

    refused, *answered = service.loop.run_until_complete(crowd())
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert [answer.status for answer in answered] == [200] * 3
    assert service.api.batcher.held == 0


def test_an_answer_that_comes_too_late_is_504(open_service: Callable[..., Service], sample: Any) -> None:
    service = open_service(deadline=0.05)
    gate: Any = Gate(service.api.batcher.model)  # type: ignore[arg-type]
    service.api.batcher.model = gate
    assert service.predict(sample(0)).status == 504
    gate.open.set()


def test_features_that_fail_on_one_request_spare_its_neighbours(
    open_service: Callable[..., Service], sample: Any
) -> None:
    service = open_service()
    model = service.api.batcher.model
    assert model is not None

    class Picky(Gate):
        def predict(self, frame: Any) -> Any:
            assert self.open.wait(20)
            if "ZZ" in frame["carrier"]:
                raise models.UnusableRowsError("no ZZ")
            return model.predict(frame)

    gate: Any = Picky(model)
    service.api.batcher.model = gate

    async def crowd() -> list[FakeProto]:
        sent = [asyncio.ensure_future(service.send("POST", "/predict", {"instances": [sample(i)]})) for i in range(6)]
        while service.api.batcher.held < 6:  # noqa: ASYNC110
            await asyncio.sleep(0)
        gate.open.set()
        return await asyncio.gather(*sent)

    assert [answer.status for answer in service.loop.run_until_complete(crowd())] == [200, 200, 422] * 2


def test_metrics_count_answers_by_code(open_service: Callable[..., Service], sample: Any) -> None:
    service = open_service()
    service.predict(sample(0))
    service.ask("POST", "/predict", b"{")
    page = service.ask("GET", "/metrics").answer.decode()
    assert 'stackyard_requests_total{asked="prediction",code="200"} 1.0' in page
    assert 'stackyard_requests_total{asked="prediction",code="400"} 1.0' in page
    assert "stackyard_request_duration_seconds_count 1.0" in page


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**400), max_value=10**400)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20)
    | st.sampled_from(["2013-03-01", "2013-03-01T00:00:00Z", "9999-12-31T23:59:59+14:00", "0001-01-01T00:00:00-14:00"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = ["departs", "carrier", "distance", "wind", "holiday"]
INSTANCES = st.lists(st.dictionaries(st.sampled_from(NAMES), JSON) | JSON, max_size=3)
TENSOR = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(NAMES) | JSON,
        "shape": st.lists(st.integers(-1, 3), max_size=2) | JSON,
        "datatype": st.sampled_from(["BYTES", "INT64", "FP64", "BOOL"]) | JSON,
        "data": st.lists(JSON, max_size=3) | JSON,
    },
)
BODIES = st.one_of(
    st.binary(max_size=200),
    JSON.map(lambda value: json.dumps(value).encode()),
    INSTANCES.map(lambda rows: json.dumps({"instances": rows}).encode()),
    st.lists(TENSOR, max_size=3).map(lambda found: json.dumps({"inputs": found}).encode()),
)
MUTED = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


@MUTED
@given(body=BODIES, path=st.sampled_from(["/predict", "/v2/models/delays/infer"]))
def test_no_body_whatever_is_answered_with_a_server_error(service: Service, body: bytes, path: str) -> None:
    answer = service.ask("POST", path, body)
    told = json.loads(answer.answer)
    assert answer.status in {200, 400, 413, 422}
    if answer.status == 422:
        assert "could not be understood" not in told["error"], told


@MUTED
@given(
    row=st.fixed_dictionaries(
        {
            "departs": st.datetimes().map(lambda when: when.isoformat() + "Z"),
            "carrier": st.text(max_size=40),
            "distance": st.integers(-(1 << 63), (1 << 63) - 1),
            "wind": st.none() | st.floats(allow_nan=False, allow_infinity=False),
            "holiday": st.booleans(),
        }
    )
)
def test_every_sound_row_has_a_finite_answer_or_a_reason(service: Service, row: dict[str, Any]) -> None:
    answer = service.ask("POST", "/predict", {"instances": [row]})
    told = json.loads(answer.answer)
    if answer.status == 200:
        assert math.isfinite(told["predictions"][0]["probability"])
    else:
        assert answer.status == 422 and ("no prediction can be made" in told["error"] or told.get("problems")), told
