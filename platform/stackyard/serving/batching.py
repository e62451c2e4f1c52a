"""Many requests, one model, one thread.

A row alone costs almost as much as sixteen together (the fixed cost of building a frame dwarfs the trees), so
whatever waits when the thread is free is answered as one batch: an idle service answers at once, a busy one
gains throughput instead of a queue. What a replica holds is bounded; one request more is refused, not delayed.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from stackyard.data.features import InputError
from stackyard.serving.metrics import Metrics
from stackyard.serving.model import Model, UnusableRowsError

LARGEST_BATCH = 512
"""Rows answered at once: beyond this a batch only adds latency."""


class OverloadedError(Exception):
    """The replica holds as many requests as it may."""


class _Load:
    """Time-weighted mean of a number that changes on one thread."""

    def __init__(self) -> None:
        self._sum, self._value, self._since, self._began = 0.0, 0, time.monotonic(), time.monotonic()

    def changed(self, value: int) -> None:
        now = time.monotonic()
        self._sum += self._value * (now - self._since)
        self._value, self._since = value, now

    def take(self, value: int) -> float:
        self.changed(value)
        span = self._since - self._began
        mean = self._sum / span if span > 0 else float(value)
        self._sum, self._began = 0.0, self._since
        return mean


@dataclass(slots=True)
class Ask:
    """One request on its way through the thread."""

    rows: list[dict[str, Any]]
    request_id: str
    future: asyncio.Future[Answer]
    loop: asyncio.AbstractEventLoop
    deadline: float
    """time.monotonic() after which nobody waits any more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Outputs [rows, outputs] and the model that gave them."""

    model: Model
    outputs: np.ndarray


@dataclass(frozen=True, slots=True)
class Logged:
    """What the prediction log is given for one batch; `ids` has one request id and row number per row."""

    bundle: str
    time: float
    ids: list[tuple[str, int]]
    frame: pl.DataFrame
    outputs: np.ndarray


@dataclass
class Batcher:
    """Owns the inference thread. `submit` is called on the event loop's thread only."""

    limit: int
    metrics: Metrics
    log: Callable[[Logged], None]
    model: Model | None = None
    """The champion; replaced by assignment, which a running batch does not notice."""
    held: int = 0
    """Requests asked and not answered."""
    busy_since: float | None = None
    """time.monotonic() when the running batch began; None between batches."""
    _queue: queue.SimpleQueue[Ask | None] = field(default_factory=queue.SimpleQueue)
    _load: _Load = field(default_factory=_Load)

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end after what is queued."""
        self._queue.put(None)
        self._thread.join(5)

    def alive(self) -> bool:
        """Whether the thread runs and its batch is not stuck."""
        since = self.busy_since
        return self._thread.is_alive() and (since is None or time.monotonic() - since < 30)

    def submit(self, rows: list[dict[str, Any]], request_id: str, seconds: float) -> asyncio.Future[Answer]:
        """Queue `rows`; the future raises InputError, UnusableRowsError or TimeoutError. Raises OverloadedError."""
        if self.held >= self.limit:
            raise OverloadedError
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self.held += 1
        self._load.changed(self.held)
        future.add_done_callback(self._done)
        self._queue.put(Ask(rows, request_id, future, loop, time.monotonic() + seconds))
        timer = loop.call_later(seconds, _expire, future)
        future.add_done_callback(lambda _: timer.cancel())
        return future

    def load(self) -> float:
        """Mean number of requests held since the last call."""
        return self._load.take(self.held)

    def _done(self, _: asyncio.Future[Answer]) -> None:
        self.held -= 1
        self._load.changed(self.held)

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, rows, ended = [first], len(first.rows), False
            while rows < LARGEST_BATCH:
                try:
                    ask = self._queue.get_nowait()
                except queue.Empty:
                    break
                if ask is None:
                    ended = True
                    break
                batch.append(ask)
                rows += len(ask.rows)
            self.busy_since = time.monotonic()
            try:
                self._answer([ask for ask in batch if ask.deadline > self.busy_since])
            finally:
                self.busy_since = None
            if ended:
                return

    def _answer(self, batch: list[Ask]) -> None:
        model = self.model
        if not batch or model is None:
            return
        results: list[Answer | Exception]
        try:
            frame = model.frame([row for ask in batch for row in ask.rows])
            outputs = model.predict(frame)
        except Exception as error:  # noqa: BLE001
            if len(batch) > 1:  # one bad request must not spoil its neighbours
                for ask in batch:
                    self._answer([ask])
                return
            known = isinstance(error, (InputError, UnusableRowsError))
            results = [error if known else UnusableRowsError(f"{type(error).__name__}: {error}")]
            batch[0].loop.call_soon_threadsafe(_deliver, batch, results)
            return
        results, start = [], 0
        for ask in batch:
            results.append(Answer(model, outputs[start : start + len(ask.rows)]))
            start += len(ask.rows)
        batch[0].loop.call_soon_threadsafe(_deliver, batch, results)
        self.metrics.batch_rows.observe(len(outputs))
        ids = [(ask.request_id, row) for ask in batch for row in range(len(ask.rows))]
        self.log(Logged(model.bundle, time.time(), ids, frame, outputs))


def _expire(future: asyncio.Future[Answer]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())


def _deliver(batch: list[Ask], results: list[Answer | Exception]) -> None:
    for ask, result in zip(batch, results, strict=True):
        if ask.future.done():
            continue
        if isinstance(result, Exception):
            ask.future.set_exception(result)
        else:
            ask.future.set_result(result)
