"""Many requests, one model, one thread.

A row alone costs almost as much as sixteen together (the fixed cost of building a frame dwarfs the trees), so
whatever waits when the thread is free is answered as one batch: an idle service answers at once, a busy one
gains throughput instead of a queue. What a replica holds is bounded; one request more is refused, not delayed.

A challenger, where a Release has one, is asked by a thread and a process of its own: here requests are only handed to
it, and come back when it has no answer.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import polars as pl

from stackyard.data.features import InputError
from stackyard.serving.metrics import Metrics
from stackyard.serving.model import Face, Model, UnusableRowsError

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


@dataclass(frozen=True, slots=True)
class Fallback:
    """Why the champion answers a request that was a challenger's."""

    challenger: Challenger | None
    """Who is told once the champion has answered; None when nothing is held against it."""
    outcome: str
    seconds: float | None
    """That the challenger took; None when it was not asked."""


@dataclass(slots=True)
class Ask:
    """One request on its way through the thread."""

    rows: list[dict[str, Any]]
    request_id: str
    future: asyncio.Future[Answer]
    loop: asyncio.AbstractEventLoop
    deadline: float
    """time.monotonic() after which nobody waits any more."""
    fallback: Fallback | None = None
    """Set when the champion must answer it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Outputs [rows, outputs] and the model that gave them."""

    model: Model | Face
    outputs: np.ndarray


@dataclass(frozen=True, slots=True)
class Logged:
    """What the prediction log is given for one batch; `ids` has one request id and row number per row."""

    bundle: str
    time: float
    ids: list[tuple[str, int]]
    frame: pl.DataFrame
    outputs: np.ndarray | None
    """None unless `outcome` is ok."""
    release: int = 0
    arm: str = "champion"
    outcome: str = "ok"
    seconds: float | None = None
    """That the arm took for the whole batch."""


class Challenger(Protocol):
    """What the inference thread asks of a challenger; none of it waits."""

    def take(self, batch: list[Ask]) -> list[Ask]:
        """Keep what the challenger is to answer; returns what the champion answers now."""
        ...

    def answered(self, batch: list[Ask], frame: pl.DataFrame, moment: float) -> None:
        """The champion has answered `batch`, whose rows are `frame`, in order, at `moment` of the stack's clock."""
        ...


@dataclass(frozen=True, slots=True)
class Placed:
    """Who answers, as one value: a batch sees one Release from its beginning to its end."""

    model: Model | None = None
    release: int = 0
    challenger: Challenger | None = None


@dataclass
class Batcher:
    """Owns the inference thread. `submit` is called on the event loop's thread only."""

    limit: int
    metrics: Metrics
    log: Callable[[Logged], None]
    now: Callable[[], float] = time.time
    """Seconds since 1970 by the stack's clock, for the log."""
    placed: Placed = Placed()
    """Who answers; replaced by assignment, which a running batch does not notice."""
    held: int = 0
    """Requests asked and not answered."""
    busy_since: float | None = None
    """time.monotonic() when the running batch began; None between batches."""
    _queue: queue.SimpleQueue[Ask | threading.Event | None] = field(default_factory=queue.SimpleQueue)
    _load: _Load = field(default_factory=_Load)

    @property
    def model(self) -> Model | None:
        """The champion."""
        return self.placed.model

    @model.setter
    def model(self, model: Model | None) -> None:
        self.placed = Placed(model)

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

    def give_back(self, ask: Ask) -> None:
        """Have the champion answer a request that a challenger has not; from any thread."""
        self._queue.put(ask)

    def settle(self, seconds: float) -> bool:
        """Wait until everything asked before this call is answered and logged; from a thread that may wait."""
        reached = threading.Event()
        self._queue.put(reached)
        return reached.wait(seconds)

    def load(self) -> float:
        """Mean number of requests held since the last call."""
        return self._load.take(self.held)

    def _done(self, _: asyncio.Future[Answer]) -> None:
        self.held -= 1
        self._load.changed(self.held)

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            if isinstance(first, threading.Event):
                first.set()
                continue
            batch, after = self._gather(first)
            self.busy_since = time.monotonic()
            try:
                placed, batch = self.placed, [ask for ask in batch if ask.deadline > self.busy_since]
                if placed.challenger is not None:
                    batch = placed.challenger.take(batch)
                self._answer(placed, batch)
            finally:
                self.busy_since = None
            if isinstance(after, threading.Event):
                after.set()
            elif after == "end":
                return

    def _gather(self, first: Ask) -> tuple[list[Ask], threading.Event | str | None]:
        """All that waits, up to LARGEST_BATCH rows, and what came after it that is no request."""
        batch, rows = [first], len(first.rows)
        while rows < LARGEST_BATCH:
            try:
                ask = self._queue.get_nowait()
            except queue.Empty:
                break
            if not isinstance(ask, Ask):
                return batch, ask or "end"
            batch.append(ask)
            rows += len(ask.rows)
        return batch, None

    def _answer(self, placed: Placed, batch: list[Ask]) -> None:
        model, began = placed.model, time.perf_counter()
        if not batch or model is None:
            return
        results: list[Answer | Exception]
        try:
            frame = model.frame([row for ask in batch for row in ask.rows])
            outputs = model.predict(frame)
        except Exception as error:  # noqa: BLE001
            if len(batch) > 1:  # one bad request must not spoil its neighbours
                for ask in batch:
                    self._answer(placed, [ask])
                return
            known = isinstance(error, (InputError, UnusableRowsError))
            results = [error if known else UnusableRowsError(f"{type(error).__name__}: {error}")]
            deliver(batch, results)
            return
        seconds, moment = time.perf_counter() - began, self.now()  # a replay may move the clock once it has its answer
        results, start = [], 0
        for ask in batch:
            results.append(Answer(model, outputs[start : start + len(ask.rows)]))
            start += len(ask.rows)
        deliver(batch, results)
        self.metrics.batch_rows.observe(len(outputs))
        # Each thread gets a frame object of its own: polars holds a frame's lock while it waits for Python's, so two
        # threads with one object (one writing it into a Python buffer, one reading its columns) would wait for ever.
        logged = Logged(model.bundle, moment, ids(batch), frame.clone(), outputs, placed.release, seconds=seconds)
        self.log(logged)
        for challenger in {placed.challenger, *(ask.fallback.challenger for ask in batch if ask.fallback)}:
            if challenger is not None:
                challenger.answered(batch, frame.clone(), moment)


def ids(batch: list[Ask]) -> list[tuple[str, int]]:
    """(request id, row number) of every row of `batch`, in order."""
    return [(ask.request_id, row) for ask in batch for row in range(len(ask.rows))]


def deliver(batch: list[Ask], results: list[Answer | Exception]) -> None:
    """Hand each request of `batch` its result; from any thread."""
    batch[0].loop.call_soon_threadsafe(_deliver, batch, results)


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
