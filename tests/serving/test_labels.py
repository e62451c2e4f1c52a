"""Labels by request id: who may send them, what is taken, and that what was thanked for is there whatever dies."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import polars as pl
import pytest

from stackyard.serving import haproxy, labels
from stackyard.serving.flush import FlushError, flush_all
from stackyard.serving.labels import LabelLog
from stackyard.serving.metrics import Metrics
from stackyard.serving.protocol import RequestError
from stackyard.serving.replica import Replica
from stackyard.spec.models import TaskSpec
from stackyard.store.objects import Store

BINARY = TaskSpec(type="binary", label="late")
MULTICLASS = TaskSpec(type="multiclass", label="late", classes=("early", "on time", "late"))
REGRESSION = TaskSpec(type="regression", label="late")
NOON = dt.datetime(2013, 5, 1, 12, tzinfo=dt.UTC).timestamp()


@pytest.mark.parametrize(
    ("task", "label", "number"),
    [
        pytest.param(BINARY, True, 1.0, id="true"),
        pytest.param(BINARY, False, 0.0, id="false"),
        pytest.param(MULTICLASS, "late", 2.0, id="class"),
        pytest.param(REGRESSION, 1.5, 1.5, id="value"),
        pytest.param(REGRESSION, 3, 3.0, id="whole value"),
    ],
)
def test_each_task_has_labels_of_its_own(task: TaskSpec, label: Any, number: float) -> None:
    entry = {"request_id": "request-1", "row": 2, "label": label}
    assert labels.read({"labels": [entry]}, task) == [("request-1", 2, number)]
    assert labels.read({"labels": [{**entry, "row": 0}, {"request_id": "request-1", "label": label}]}, task)[0][1] == 0


@pytest.mark.parametrize(
    ("task", "entry", "path"),
    [
        pytest.param(BINARY, {"label": 1}, "labels[1].label", id="a number for a boolean"),
        pytest.param(BINARY, {"label": None}, "labels[1].label", id="null"),
        pytest.param(BINARY, {"label": "true"}, "labels[1].label", id="a text for a boolean"),
        pytest.param(MULTICLASS, {"label": "soon"}, "labels[1].label", id="an unknown class"),
        pytest.param(MULTICLASS, {"label": 2}, "labels[1].label", id="an index for a class"),
        pytest.param(REGRESSION, {"label": True}, "labels[1].label", id="a boolean for a number"),
        pytest.param(REGRESSION, {"label": float("inf")}, "labels[1].label", id="infinite"),
        pytest.param(REGRESSION, {"label": 10**400}, "labels[1].label", id="too large"),
        pytest.param(BINARY, {"row": -1}, "labels[1].row", id="a negative row"),
        pytest.param(BINARY, {"row": True}, "labels[1].row", id="a boolean for a row"),
        pytest.param(BINARY, {"row": 1 << 32}, "labels[1].row", id="a row past 32 bits"),
        pytest.param(BINARY, {"request_id": "short"}, "labels[1].request_id", id="no request id"),
        pytest.param(BINARY, {"request_id": 4711}, "labels[1].request_id", id="a number for an id"),
        pytest.param(BINARY, {"weight": 2}, "labels[1].weight", id="an unknown field"),
    ],
)
def test_a_wrong_label_is_named_and_none_is_taken(task: TaskSpec, entry: dict[str, Any], path: str) -> None:
    sound = {"binary": True, "multiclass": "late", "regression": 0.5}[task.type]
    first = {"request_id": "request-1", "label": sound}
    with pytest.raises(RequestError) as refusal:
        labels.read({"labels": [first, {**first, **entry}]}, task)
    assert refusal.value.status == 422 and [found for found, _ in refusal.value.problems] == [path]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"labels": []}, id="no labels"),
        pytest.param({"labels": {}}, id="no list"),
        pytest.param({"labels": [3]}, id="no object"),
        pytest.param({"labels": [{"request_id": "request-1", "label": True}], "model": "m"}, id="another field"),
        pytest.param({"labels": [{}] * (labels.MOST_LABELS + 1)}, id="too many"),
    ],
)
def test_a_body_that_holds_no_labels_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as refusal:
        labels.read(body, BINARY)
    assert refusal.value.status == 422


def open_log(folder: Path, *, away: bool = False, now: float = NOON) -> LabelLog:
    store = Store.open(folder / "store")
    return LabelLog("delays", folder / "spool", lambda: None if away else store, Metrics(), now=lambda: now)


def stored(store: Store) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(store.read(key)) for key in store.keys("labels")]).sort("received")


def test_labels_lie_under_the_day_of_their_arrival_and_a_correction_is_newer(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for number in (1.0, 0.0):  # the clock stands still meanwhile
        assert log.take([("request-1", 0, number), ("request-2", 3, 1.0)]) == 2
    log._roll()
    store = Store.open(tmp_path / "store")
    assert {key.split("/")[2] for key in store.keys("labels")} == {"2013-05-01"}
    found = stored(store)
    schema = {"request_id": pl.String, "row": pl.UInt32, "label": pl.Float64, "received": pl.Datetime("us", "UTC")}
    assert dict(found.schema) == schema
    newest = found.group_by("request_id", "row").agg(pl.col("label").sort_by("received").last())
    assert dict(zip(newest["request_id"], newest["label"], strict=True)) == {"request-1": 0.0, "request-2": 1.0}


@pytest.mark.parametrize("moment", [pytest.param("taken", id="taken"), pytest.param("sealed", id="the store was away")])
def test_labels_of_a_dead_replica_are_stored_by_another(tmp_path: Path, moment: str) -> None:
    dead = open_log(tmp_path, away=True)
    dead.take([("request-1", 0, 1.0)])
    if moment == "sealed":
        dead._roll()
        dead._spool.seal()
    dead._spool._lock.close()  # as kill -9
    heir = open_log(tmp_path)
    assert heir._recover() == 1 and stored(Store.open(tmp_path / "store"))["request_id"].to_list() == ["request-1"]
    assert heir._recover() == 0


def test_an_append_while_the_log_rolls_is_not_lost(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.take([("request-1", 0, 1.0)])
    log._spool.seal()
    log.take([("request-2", 0, 1.0)])  # a request between the seal and the roll
    from stackyard.serving import rolling

    rolling.roll(log._spool.path, Store.open(tmp_path / "store"), log._parts, log._key)
    log._roll()
    assert set(stored(Store.open(tmp_path / "store"))["request_id"]) == {"request-1", "request-2"}


@pytest.fixture(scope="module")
def live(shared_yard: Any, free_ports: Any) -> Any:
    clock = shared_yard.folder / "clock"
    clock.write_text("2013-03-01T08:00:00+00:00")
    shared_yard.release(shared_yard.publish(seed=1))
    ports = free_ports(1)
    replica = Replica({**shared_yard.arguments(ports, drain=0.2), "clock": str(clock)})
    with httpx.Client(base_url=f"http://127.0.0.1:{ports[0]}", timeout=20, trust_env=False) as client:
        yield SimpleNamespace(yard=shared_yard, client=client, clock=clock, ports=ports, replica=replica)
    replica.drain()


def send(live: Any, *entries: Any, token: str | None = None, path: str = "/labels", **headers: str) -> httpx.Response:
    token = live.yard.token if token is None else token
    given = {"authorization": f"Bearer {token}", **headers} if token else headers
    return live.client.post(path, json={"labels": list(entries)}, headers=given)


def test_labels_meet_their_predictions_in_the_store_at_the_stacks_time(live: Any, sample: Any) -> None:
    """Earns: the whole path of a label, and both logs by the one clock, over a change of its day."""
    answer = live.client.post("/predict", json={"instances": [sample(0), sample(1)]}).json()
    live.clock.write_text("2013-03-02T09:00:00+00:00")
    later = live.client.post("/predict", json={"instances": [sample(2)]}).json()
    live.clock.write_text("")  # nobody fails by a clock that cannot be read
    last = live.client.post("/predict", json={"instances": [sample(2)]})
    assert last.status_code == 200
    request_id = answer["request_id"]
    told = send(live, {"request_id": request_id, "label": True}, {"request_id": request_id, "row": 1, "label": False})
    assert (told.status_code, told.json()) == (202, {"accepted": 2})
    assert flush_all(live.ports, live.yard.token) == {live.ports[0]: 6}
    store = live.yard.store
    found = pl.concat([pl.read_parquet(store.read(key)) for key in store.keys("predictions")])
    days = {key.split("/")[2] for key in store.keys("predictions")}
    assert days == {"2013-03-01", "2013-03-02"}
    times = dict(zip(found["request_id"], found["time"].dt.to_string("%Y-%m-%d %H"), strict=True))
    assert times == {
        request_id: "2013-03-01 08",
        later["request_id"]: "2013-03-02 09",
        last.json()["request_id"]: "2013-03-02 09",
    }
    joined = stored(store).join(found, on=["request_id", "row"])
    assert joined.sort("row")["label"].to_list() == [1.0, 0.0]
    assert found.select("release", "arm", "outcome").unique().rows() == [(1, "champion", "ok")]
    live.clock.write_text("2013-03-02T10:00:00+00:00")


@pytest.mark.parametrize("path", ["/labels", "/flush"])
def test_without_the_token_nothing_is_taken(live: Any, path: str) -> None:
    entry = {"request_id": "request-1", "label": True}
    for token in ("", "wrong", live.yard.token[:-1]):
        answer = send(live, entry, token=token, path=path)
        assert answer.status_code == 401 and "Bearer" in answer.json()["error"]
    assert live.client.get(path).status_code == 405


def test_a_service_without_a_token_says_how_to_have_one(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.replica.api.feedback, "token_path", None)
    answer = send(live, {"request_id": "request-1", "label": True})
    assert answer.status_code == 403 and "labels_token_path" in answer.json()["error"]
    monkeypatch.undo()
    token = live.yard.folder / "labels-token"
    token.chmod(0o644)
    answer = send(live, {"request_id": "request-1", "label": True})
    assert answer.status_code == 403 and "chmod 600" in answer.json()["error"]
    token.chmod(0o600)


def test_a_wrong_label_is_told_over_http_with_its_path(live: Any) -> None:
    answer = send(live, {"request_id": "request-1", "label": True}, {"request_id": "request-2", "label": "yes"})
    assert answer.status_code == 422
    assert [problem["path"] for problem in answer.json()["problems"]] == ["labels[1].label"]
    many = [{"request_id": f"request-{index:012d}", "label": True} for index in range(3000)]
    assert send(live, *many).status_code == 413
    raw = {"authorization": f"Bearer {live.yard.token}"}
    assert live.client.post("/labels", content=b"{", headers=raw).status_code == 415
    assert live.client.post("/labels", content=b"{", headers={**raw, "content-type": "application/json"}).is_error


def test_a_disk_that_takes_no_labels_is_told_once(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(live.replica.labels._spool, "append", full)
    answer = send(live, {"request_id": "request-1", "label": True})
    assert answer.status_code == 507 and "No space left" in answer.json()["error"]
    retried = haproxy.render(
        port=1, replica_ports=[2], socket=Path("/x"), body_limit=1 << 16, deadline=1.0, queue=1
    ).split("retry-on ")[1]
    assert "507" not in retried.splitlines()[0], "what would fail again is not tried again"


def test_a_flush_says_when_the_store_is_away(live: Any, sample: Any) -> None:
    store = Path(live.yard.store.url)
    away = store.with_name("away")
    live.client.post("/predict", json={"instances": [sample(0)]})
    store.rename(away)
    try:
        with pytest.raises(FlushError, match="507"):
            flush_all(live.ports, live.yard.token)
    finally:
        away.rename(store)
    assert flush_all([*live.ports, 1], live.yard.token) == {live.ports[0]: 1}


def test_the_document_tells_of_labels(live: Any) -> None:
    document = live.client.get("/openapi.json").json()
    assert document["components"]["schemas"]["Label"]["properties"]["label"] == {"type": "boolean"}
    assert "202" in document["paths"]["/labels"]["post"]["responses"]
    page = live.client.get("/metrics").text
    assert "stackyard_labels_accepted_total 2.0" in page and json.dumps(document)
