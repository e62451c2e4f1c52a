"""The HTTP face of one replica, an RSGI application.

Every answer is JSON with a request id. No input is answered 500: what is wrong with a request is the request's
(4xx), a full replica says 429 (HAProxy would retry a 503, multiplying the overload), 503 is kept for "not ready"
and "stopping", and 504 for "too late".
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stackyard.data.features import InputError
from stackyard.serving import openapi, protocol
from stackyard.serving.batching import Answer, Batcher, OverloadedError
from stackyard.serving.feedback import Feedback
from stackyard.serving.metrics import Metrics
from stackyard.serving.model import Model, UnusableRowsError
from stackyard.serving.protocol import RequestError
from stackyard.serving.settings import Limits

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
"""A request id that is kept as it came; HAProxy's configuration has the same rule."""

SENT_BACK = ("/labels", "/flush")
"""Paths that need the token."""

MOST_PROBLEMS = 32
"""Problems told in one answer."""

_JSON = ("content-type", "application/json")


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, body and headers beyond the usual."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (_JSON,)


@dataclass
class Api:
    """Routes requests of one replica; `__rsgi__` is what granian calls."""

    name: str
    """The model's name."""
    limits: Limits
    batcher: Batcher
    metrics: Metrics
    status: Callable[[], dict[str, Any]] = dict
    """What the follower says of itself, shown in the server's metadata."""
    draining: bool = False
    feedback: Feedback | None = None
    """Takes labels and flushes; none: nothing is sent back here."""
    _documents: dict[str, bytes] = field(default_factory=dict)

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        """Answer one request."""
        sent = scope.headers.get("x-request-id")
        request_id = sent if sent and REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
        try:
            reply = await self._route(scope, proto, request_id)
        except RequestError as error:
            reply = self._refusal(error, request_id)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours: said, counted, never a bare 500 page
            reply = self._refusal(
                RequestError(422, f"this request could not be understood ({type(error).__name__})"), request_id
            )
            print(f"serving: unexpected {error!r} for {scope.method} {scope.path}", flush=True)
        model = self.batcher.model
        headers = [*reply.headers, ("x-request-id", request_id)]
        if model is not None and not any(name == "x-stackyard-bundle" for name, _ in headers):
            headers.append(("x-stackyard-bundle", model.bundle))
        asked = scope.method == "POST" and scope.path not in SENT_BACK
        self.metrics.answered(reply.status, prediction=asked)
        proto.response_bytes(reply.status, headers, reply.body)

    async def _route(self, scope: Any, proto: Any, request_id: str) -> Reply:
        if scope.proto != "http":
            raise RequestError(404, "there are no web sockets here")
        path, method = scope.path, scope.method
        if path == "/predict":
            return await self._predict(scope, proto, request_id, infer=False)
        if path == f"/v2/models/{self.name}/infer":
            return await self._predict(scope, proto, request_id, infer=True)
        if path in SENT_BACK and self.feedback is not None:
            return await self._sent_back(self.feedback, scope, proto)
        page = self._pages().get(path)
        if page is None:
            if path.startswith("/v2/models/") and path.split("/")[3] != self.name:
                raise RequestError(404, f"there is no such model; this service has one: {self.name}")
            raise RequestError(404, "there is no such page")
        if method not in ("GET", "HEAD"):
            raise RequestError(405, f"{path} is read with GET")
        return page()

    def _pages(self) -> dict[str, Callable[[], Reply]]:
        model = f"/v2/models/{self.name}"
        return {
            "/v2/health/live": lambda: Reply(200, b'{"live": true}'),
            "/v2/health/ready": self._ready,
            "/v2": self._server,
            model: self._metadata,
            f"{model}/ready": self._ready,
            "/openapi.json": self._openapi,
            "/metrics": self._metrics,
        }

    async def _predict(self, scope: Any, proto: Any, request_id: str, *, infer: bool) -> Reply:
        body = await self._json_body(scope, proto)
        model, began = self._model(), time.perf_counter()
        value = protocol.parsed(body)
        if infer:
            rows = protocol.infer_rows(value, model.columns, self.limits.rows_limit)
        else:
            rows = protocol.predict_rows(value, self.limits.rows_limit)
        answer = await self._ask(rows, request_id, value if infer else None)
        self.metrics.latency.observe(time.perf_counter() - began)
        answered = answer.model
        if infer:
            found: dict[str, Any] = {
                "model_name": answered.name,
                "model_version": answered.bundle,
                "id": value.get("id", request_id),
                "outputs": protocol.tensors(answered.task, answer.outputs),
            }
        else:
            found = {
                "predictions": protocol.predictions(answered.task, answer.outputs),
                "model": answered.name,
                "bundle": answered.bundle,
                "request_id": request_id,
            }
        return Reply(200, json.dumps(found).encode(), (_JSON, ("x-stackyard-bundle", answered.bundle)))

    async def _ask(self, rows: list[dict[str, Any]], request_id: str, tensors: dict[str, Any] | None) -> Answer:
        try:
            return await self.batcher.submit(rows, request_id, self.limits.deadline)
        except OverloadedError:
            raise RequestError(429, f"this replica already holds {self.limits.queue} requests") from None
        except TimeoutError:
            raise RequestError(504, f"no answer within {self.limits.deadline:g} s") from None
        except InputError as error:
            problems = [(str(path), str(message)) for path, message in error.problems]
            if tensors is not None:
                problems = [protocol.infer_problem(problem, tensors) for problem in problems]
            path, message = problems[0]
            raise RequestError(422, f"{path} {message}", problems) from None
        except UnusableRowsError as error:
            self.metrics.user_errors.inc()
            raise RequestError(422, f"no prediction can be made for these rows: {str(error)[:200]}") from None

    async def _sent_back(self, feedback: Feedback, scope: Any, proto: Any) -> Reply:
        if scope.method != "POST":
            raise RequestError(405, f"{scope.path} is sent with POST")
        feedback.admit(scope.headers.get("authorization"))
        if scope.path == "/flush":
            return Reply(200, json.dumps(await feedback.flush()).encode())
        body = await self._json_body(scope, proto)
        return Reply(202, json.dumps(await feedback.labels(body, self._model().task)).encode())

    async def _json_body(self, scope: Any, proto: Any) -> bytes:
        if scope.method != "POST":
            raise RequestError(405, f"{scope.path} is asked with POST")
        content_type = (scope.headers.get("content-type") or "").replace(" ", "").replace('"', "").lower()
        if content_type not in ("application/json", "application/json;charset=utf-8"):
            raise RequestError(415, "the content type must be application/json, in UTF-8")
        if (scope.headers.get("content-encoding") or "identity").strip().lower() != "identity":
            raise RequestError(415, "the body must not be compressed")
        return await self._body(scope, proto)

    async def _body(self, scope: Any, proto: Any) -> bytes:
        limit = self.limits.body_limit
        too_large = RequestError(413, f"the body is larger than {limit} bytes")
        length = scope.headers.get("content-length")
        if length is not None and (not length.isdigit() or int(length[:20]) > limit):
            raise too_large
        if length is not None:
            return await proto()
        parts, size = [], 0
        async for part in proto:
            size += len(part)
            if size > limit:
                raise too_large
            parts.append(part)
        return b"".join(parts)

    def _model(self) -> Model:
        if self.batcher.model is None:
            raise RequestError(503, "no model is loaded yet")
        return self.batcher.model

    def _ready(self) -> Reply:
        if self.draining:
            raise RequestError(503, "this replica is stopping")
        self._model()
        return Reply(200, b'{"ready": true}')

    def _server(self) -> Reply:
        model = self.batcher.model
        found = {
            "name": "stackyard",
            "version": "1",
            "extensions": [],
            "model": self.name,
            "bundle": model.bundle if model else None,
            "draining": self.draining,
            **self.status(),
        }
        return Reply(200, json.dumps(found).encode())

    def _metadata(self) -> Reply:
        model = self._model()
        found = protocol.metadata(model.name, model.bundle, model.task, model.columns)
        return Reply(200, json.dumps(found).encode())

    def _openapi(self) -> Reply:
        model = self._model()
        if model.bundle not in self._documents:
            found = openapi.document(model.name, model.bundle, model.task, model.columns, self.limits.rows_limit)
            self._documents = {model.bundle: json.dumps(found, indent=1).encode()}
        return Reply(200, self._documents[model.bundle])

    def _metrics(self) -> Reply:
        self.metrics.in_progress.set(self.batcher.held)
        return Reply(200, self.metrics.render(), (("content-type", "text/plain; version=0.0.4; charset=utf-8"),))

    def _refusal(self, error: RequestError, request_id: str) -> Reply:
        found: dict[str, Any] = {"error": error.message, "request_id": request_id}
        if error.problems:
            found["problems"] = [{"path": path, "message": text} for path, text in error.problems[:MOST_PROBLEMS]]
        extra = (("retry-after", "1"),) if error.status in (429, 503) else ()
        return Reply(error.status, json.dumps(found).encode(), (_JSON, *extra))
