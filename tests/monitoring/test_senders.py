"""Messages arrive at real receivers at least once, whoever is away for a while, and can be told from forgeries."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from stackyard.clock import SystemClock
from stackyard.monitoring import webhooks
from stackyard.monitoring.alerts import Event
from stackyard.monitoring.senders import Alerts
from stackyard.spec.loop import AlertsSpec

KEY = "a-shared-key"
PROMOTED = Event(
    key="release-7",
    owner="model",
    what="release 7 is live",
    since="2013-05-01T00:00:00+00:00",
    state="moment",
    topic="promotion",
)
SPEC = AlertsSpec(owners={"model": ("TEAM",)}, webhooks={"ci": "HOOK"})
HOOK_ONLY = AlertsSpec(webhooks={"ci": "HOOK"})


class Receiver(ThreadingHTTPServer):
    """Takes genuine deliveries once each; `answers` are the first statuses it gives, 200 after those."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[int] = []
        self.deliveries: list[tuple[dict[str, str], bytes]] = []
        self.taken: dict[str, dict[str, Any]] = {}
        self.changed = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook-path"

    def deliver(self, headers: dict[str, str], body: bytes, now: float) -> int:
        """What a careful receiver does."""
        with self.changed:
            self.deliveries.append((headers, body))
            status = self.answers.pop(0) if self.answers else 200
            if not webhooks.genuine(KEY.encode(), headers, body, now):
                status = 401
            elif headers["Idempotency-Key"] in self.taken:
                status = 200
            elif status == 200:
                self.taken[headers["Idempotency-Key"]] = json.loads(body)
            self.changed.notify_all()
        return status

    def wait(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.deliveries) >= count, timeout=30)


class _Handler(BaseHTTPRequestHandler):
    server: Receiver  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.server.deliver(dict(self.headers), body, time.time()))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def _alerts(receiver: Receiver, spec: AlertsSpec = HOOK_ONLY, **more: Any) -> Alerts:
    secrets = {"HOOK": f"{receiver.url} {KEY}", "TEAM": receiver.url.replace("http://", "json://")}
    return Alerts(spec, secrets, SystemClock(), model="m", back_off=(0.0,), **more)


def test_a_webhook_is_signed_and_says_what_happened(receiver: Receiver) -> None:
    sender = _alerts(receiver)
    sender.offer([PROMOTED])
    sender.close(30)
    ((identity, payload),) = receiver.taken.items()
    assert (payload["id"], payload["topic"], payload["what"]) == (identity, "promotion", "release 7 is live")
    assert sender.poll()["outbox"] == {}


def test_a_receiver_that_stumbles_gets_the_same_message_again_and_takes_it_once(receiver: Receiver) -> None:
    receiver.answers = [503, 500, 429]
    sender = _alerts(receiver)
    sender.offer([PROMOTED])
    sender.offer([PROMOTED])
    sender.close(30)
    assert len(receiver.deliveries) == 4
    assert len({headers["Idempotency-Key"] for headers, _ in receiver.deliveries}) == 1
    assert len({body for _, body in receiver.deliveries}) == 1
    assert len(receiver.taken) == 1
    state = sender.poll()
    assert (state["outbox"], state["failures"]) == ({}, {})


def test_a_sender_that_was_killed_sends_what_was_not_confirmed_again_under_the_same_id(receiver: Receiver) -> None:
    before = _alerts(receiver)
    before.offer([PROMOTED])
    state = json.loads(json.dumps(before._state))  # what the journal held when it died, before poll
    before.close(30)
    after = _alerts(receiver, state=state)
    after.close(30)
    assert len(receiver.deliveries) == 2
    assert len(receiver.taken) == 1
    assert after.poll()["outbox"] == {}


def test_a_message_that_the_receiver_will_never_take_does_not_hold_up_the_next(receiver: Receiver) -> None:
    receiver.answers = [400, 400, 400]
    sender = _alerts(receiver)
    sender.offer([PROMOTED, PROMOTED.model_copy(update={"key": "release-8"})])
    sender.close(30)
    state = sender.poll()
    assert [payload["key"] for payload in receiver.taken.values()] == ["release-8"]
    assert state["outbox"] == {}


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(lambda headers, body: (headers, body.replace(b"7", b"8")), id="another body"),
        pytest.param(lambda headers, body: ({**headers, webhooks.TIMESTAMP: "1"}, body), id="another time"),
        pytest.param(lambda headers, body: ({**headers, webhooks.SIGNATURE: "sha256=00"}, body), id="no signature"),
        pytest.param(lambda _, body: ({}, body), id="no headers"),
        pytest.param(lambda headers, body: ({**headers, webhooks.TIMESTAMP: "²"}, body), id="odd time"),
    ],
)
def test_a_receiver_tells_a_forgery(forge: Any) -> None:
    body = b'{"release": 7}'
    headers, changed = forge(webhooks.headers(KEY.encode(), body, "id", 1e9), body)
    assert webhooks.genuine(KEY.encode(), webhooks.headers(KEY.encode(), body, "id", 1e9), body, 1e9 + 100)
    assert not webhooks.genuine(KEY.encode(), headers, changed, 1e9)


def test_a_recorded_delivery_is_refused_later_and_taken_once_meanwhile(receiver: Receiver) -> None:
    sender = _alerts(receiver)
    sender.offer([PROMOTED])
    sender.close(30)
    ((headers, body),) = list(receiver.deliveries)
    now = float(headers[webhooks.TIMESTAMP])
    assert receiver.deliver(headers, body, now + 60) == 200
    assert receiver.deliver(headers, body, now + webhooks.TOLERANCE + 1) == 401
    assert len(receiver.taken) == 1


def test_apprise_reaches_a_real_receiver(receiver: Receiver) -> None:
    sent: list[tuple[dict[str, str], bytes]] = receiver.deliveries
    sender = _alerts(receiver, AlertsSpec(owners={"model": ("TEAM",)}))
    receiver.wait(0)
    sender.offer([PROMOTED])
    receiver.wait(1)
    sender.close()
    assert json.loads(sent[0][1])["title"] == "m: release 7 is live"


def test_nobody_waits_for_a_destination_that_hangs() -> None:
    release = threading.Event()
    reached = threading.Event()

    def hang(_: str, __: Any) -> None:
        reached.set()
        release.wait(30)

    heard = threading.Event()
    senders = {"apprise": hang, "webhook": lambda *_: heard.set()}
    sender = Alerts(SPEC, {"HOOK": "x", "TEAM": "y"}, SystemClock(), senders=senders)
    started = time.monotonic()
    sender.offer([PROMOTED])
    sender.poll()
    assert time.monotonic() - started < 5
    assert reached.wait(30)
    assert heard.wait(30)
    release.set()
    sender.close(30)


SECRET = "json://user:hunter2@127.0.0.1:1/hidden"


@pytest.mark.parametrize(
    ("spec", "secrets", "said"),
    [
        pytest.param(SPEC, {}, "is not set", id="no secrets at all"),
        pytest.param(HOOK_ONLY, {"HOOK": "http://127.0.0.1:1/hidden hunter2"}, "ConnectError", id="nobody listens"),
        pytest.param(HOOK_ONLY, {"HOOK": "http://127.0.0.1:1/hidden"}, "not `URL", id="no key"),
        pytest.param(HOOK_ONLY, {"HOOK": "ht!tp://[hidden hunter2"}, "", id="no URL"),
        pytest.param(AlertsSpec(owners={"model": ("TEAM",)}), {"TEAM": SECRET}, "not taken", id="apprise, nobody"),
        pytest.param(AlertsSpec(owners={"model": ("TEAM",)}), {"TEAM": "hidden"}, "Apprise URL", id="apprise, no URL"),
    ],
)
def test_what_cannot_be_delivered_is_told_without_its_address_and_kept(
    caplog: pytest.LogCaptureFixture, spec: AlertsSpec, secrets: dict[str, str], said: str
) -> None:
    caplog.set_level(logging.DEBUG)
    sender = Alerts(spec, secrets, SystemClock(), back_off=(60.0,))
    sender.offer([PROMOTED])
    until = time.monotonic() + 30
    while not (state := sender.poll())["failures"]:
        assert time.monotonic() < until
        threading.Event().wait(0.01)
    sender.close()
    assert any(said in entry["why"] for entry in state["failures"].values())
    assert state["outbox"]
    for hidden in ("hunter2", "hidden"):
        assert hidden not in caplog.text
        assert hidden not in json.dumps(state)
