"""A challenger beside the champion: asked in a process of its own, and no user ever waits for it or fails by it.

A canary's share of requests, the same callers each time, goes to the challenger's queue instead of the champion's; a
request that it does not answer in time comes back and the champion answers it. A shadow is given what the champion has
already answered. Both queues are bounded, a process that hangs is ended and started again after a pause, and a fuse
ends the asking altogether. Each request of the arm is logged with what became of it.

Long, since it is one machine of states that two threads move (the inference thread and the challenger's own): loading
-> ready <-> late, restarting -> ready, from each to fused or ended; refused is tried again.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from stackyard.serving.arm_items import Item, assigned, caller
from stackyard.serving.arm_runner import ArmDiedError, ArmTimeoutError, Prepared, Runner
from stackyard.serving.arm_wire import Miss
from stackyard.serving.batching import LARGEST_BATCH, Answer, Ask, Fallback, Logged, deliver, ids
from stackyard.serving.fuse import Fuse
from stackyard.serving.metrics import Metrics
from stackyard.serving.model import Model
from stackyard.serving.screening import RefusedError
from stackyard.store.releases import Arm

IDLE_SECONDS = 0.25
"""How often an idle process is looked at."""
FIRST_PAUSE, LAST_PAUSE = 0.5, 30.0
"""Seconds before a dead process is started again; doubled each time, until PAUSE_RESET answers were had."""
PAUSE_RESET = 50
LOAD_PAUSE, LAST_LOAD_PAUSE = 5.0, 300.0
"""The same for a bundle that could not be had or was refused."""
WAITING_REQUESTS = 256
WAITING_ROWS = 4096
"""What may wait for a challenger; more is dropped."""
GRACE_SECONDS = 1.0
"""How long a late answer is waited for before the process is ended: a busy machine is not the challenger's fault, and
each end costs seconds without it. Nobody else waits: requests go to the champion meanwhile."""
DEADLINE_SHARE = 1 / 3
"""Of a request's deadline that a challenger may use, at most: the rest is the champion's, should it have to answer."""
SHADOW_NICE = 10
"""A shadow yields the processor to answers that somebody waits for."""


_EMPTY = object()


@dataclass(eq=False)
class ChallengerArm:
    """One challenger of one replica, with its thread; `take` and `answered` are the inference thread's."""

    arm: Arm
    salt: str
    prepare: Callable[[], Prepared]
    """The bundle, verified and tried. Raises what went wrong."""
    metrics: Metrics
    log: Callable[[Logged], None]
    now: Callable[[], float]
    give_back: Callable[[Ask], None]
    deadline: float
    """Seconds after which a client gets no answer."""
    champion: Model
    release: int
    state: str = "loading"
    """loading, ready, late, restarting, fused, refused, ended."""
    reason: str = ""
    _runner: Runner | None = None
    _items: queue.SimpleQueue[Item | threading.Event | None] = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        self.fuse, self._lock = Fuse(self.arm.fuse), threading.Lock()
        self._waiting = self._streak = 0
        self._pause, self._load_pause, self._due = FIRST_PAUSE, LOAD_PAUSE, 0.0
        self._prepared: Prepared | None = None
        self._thread = threading.Thread(target=self._run, name="challenger", daemon=True)
        metrics = self.metrics
        metrics.arm_fused.set(0)
        self._latency = metrics.arm_latency.labels(self.arm.kind)

    def start(self) -> None:
        """Start the thread; it prepares the bundle and starts the process, which nobody waits for."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it no more; what waits goes back to the champion. Returns before the process has ended."""
        self._enter("ended")
        self._items.put(None)

    def join(self, seconds: float) -> None:
        """Wait for the end of the thread, and with it of the process."""
        self._thread.join(seconds)

    def suits(self, arm: Arm) -> bool:
        """Whether this challenger can go on as `arm`."""
        same = (arm.bundle, arm.kind, arm.memory) == (self.arm.bundle, self.arm.kind, self.arm.memory)
        return same and self.state != "ended"

    def carry_on(self, arm: Arm, salt: str, champion: Model, release: int) -> None:
        """Take the places of a new Release; the process and the fuse's count stay."""
        self.arm, self.salt, self.champion, self.release, self.fuse.limit = arm, salt, champion, release, arm.fuse

    def status(self) -> dict[str, Any]:
        """For the server's metadata."""
        return {
            "bundle": self.arm.bundle,
            "kind": self.arm.kind,
            "share": self.arm.share,
            "state": self.state,
            "reason": self.reason or None,
            "fused": self.fuse.blown,
            "failures": self.fuse.failures,
        }

    def settle(self, seconds: float) -> bool:
        """Wait until what was put before this call has an outcome; from a thread that may wait."""
        if self.state != "ready":
            return True
        reached = threading.Event()
        self._items.put(reached)
        return reached.wait(seconds)

    def take(self, batch: list[Ask]) -> list[Ask]:
        """Keep a canary's requests; returns those that the champion answers now."""
        if self.arm.kind != "canary":
            return batch
        left: list[Ask] = []
        for ask in batch:
            if ask.fallback is not None or not assigned(self.salt, caller(ask, self.arm.key), self.arm.share):
                left.append(ask)
                continue
            outcome = self._put(Item(ids([ask]), [len(ask.rows)], None, [ask], time.monotonic(), self.release))
            if outcome is not None:
                ask.fallback = Fallback(self, outcome, None)
                left.append(ask)
        return left

    def answered(self, batch: list[Ask], frame: pl.DataFrame, moment: float) -> None:
        """Settle the requests of `batch` that came back, or show a shadow its share."""
        start, parts = 0, []
        for ask in batch:
            end = start + len(ask.rows)
            back = ask.fallback
            if back is not None and back.challenger is self:
                item = Item(ids([ask]), [len(ask.rows)], frame, [], 0.0, self.release, moment, [(start, end)])
                self._tell(item, back.outcome, back.seconds)
                if back.outcome in ("error", "not_finite"):
                    self._failed(back.outcome, 1)
            elif self.arm.kind == "shadow" and assigned(self.salt, caller(ask, self.arm.key), self.arm.share):
                parts.append((ask, start, end))
            start = end
        if parts and self.state != "ended":
            asks = [ask for ask, _, _ in parts]
            spans = None if len(parts) == len(batch) else [(begin, end) for _, begin, end in parts]
            counts, now = [len(ask.rows) for ask in asks], time.monotonic()
            item = Item(ids(asks), counts, frame, [], now, self.release, moment, spans)
            outcome = self._put(item)
            if outcome is not None:
                self._return(item, outcome, None)

    def _put(self, item: Item) -> str | None:
        """Queue `item`; or the outcome that it has already."""
        with self._lock:
            if self.state != "ready":
                return {"fused": "fused", "refused": "fused", "restarting": "died"}.get(self.state, "dropped")
            if self._waiting >= WAITING_ROWS or self._items.qsize() >= WAITING_REQUESTS:
                return "dropped"
            self._waiting += len(item.names)
            self._items.put(item)
        return None

    def _enter(self, state: str, reason: str = "") -> None:
        """Change the state; unless it is `ready`, what waits gets its outcome at once."""
        left: list[Any] = []
        with self._lock:
            if self.state == "ended":
                return
            if self.fuse.blown and state not in ("fused", "ended"):  # the other thread has just blown it
                state, reason = "fused", self.reason
            self.state, self.reason = state, reason
            while state != "ready" and (item := self._taken()) is not _EMPTY:
                left.append(item)
            self._waiting = 0 if state != "ready" else self._waiting
        for item in left:
            if isinstance(item, threading.Event):
                item.set()
            elif item is not None:
                outcome = {"ended": None, "fused": "fused"}.get(state, "died")
                self._return(item, outcome, None)

    def _taken(self) -> Any:
        try:
            return self._items.get_nowait()
        except queue.Empty:
            return _EMPTY

    def _run(self) -> None:
        try:
            while self.state != "ended":
                if self.fuse.blown:
                    self._drop()
                if self._runner is None and not self._bring_up():
                    continue
                self._step()
        finally:
            self._drop()

    def _bring_up(self) -> bool:
        """One try to have a process, when it is time; whether there is one."""
        wait = self._due - time.monotonic()
        if wait > 0 or self.fuse.blown:
            self._end_of(min(max(wait, 0.05), IDLE_SECONDS) if not self.fuse.blown else IDLE_SECONDS)
            return False
        try:
            if self._prepared is None:
                self._prepared = self._checked(self.prepare())
            nice = SHADOW_NICE if self.arm.kind == "shadow" else 0
            self.metrics.arm_starts.inc()
            self._runner = Runner(self._prepared, self.arm.memory, nice)
            self._runner.wait_ready(lambda: self.state != "ended")
        except (ArmDiedError, ArmTimeoutError) as error:
            if self.state != "ended":
                self._broken("died", f"it does not start: {error or 'too slow'}")
            return False
        except Exception as error:  # noqa: BLE001 - whatever a bundle, a store or a full machine raises: told, tried again
            self._drop()
            self._due, self._load_pause = (
                time.monotonic() + self._load_pause,
                min(2 * self._load_pause, LAST_LOAD_PAUSE),
            )
            self._say(f"is not asked: {error}")
            self.metrics.load_failures.inc()
            self._enter("loading" if isinstance(error, OSError) else "refused", str(error)[:300])
            return False
        self._enter("ready")
        return True

    def _checked(self, prepared: Prepared) -> Prepared:
        face, champion = prepared.face, self.champion
        if (face.task.type, face.task.classes) != (champion.task.type, champion.task.classes):
            raise RefusedError("it answers another task than the champion")
        kinds = {name: column.type for name, column in champion.columns.items()}
        lacking = [name for name, column in face.columns.items() if kinds.get(name) != column.type]
        if lacking:
            raise RefusedError(f"it needs inputs that the champion's requests do not carry: {', '.join(lacking)}")
        return prepared

    def _end_of(self, seconds: float) -> None:
        """Wait, but for the end."""
        try:
            item = self._items.get(timeout=seconds)
        except queue.Empty:
            return
        if isinstance(item, threading.Event):
            item.set()
        elif item is not None:  # put in the instant before the state changed
            self._return(item, "died", None)

    def _step(self) -> None:
        assert self._runner is not None
        try:
            first = self._items.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            first = None
        if isinstance(first, threading.Event):
            first.set()
            return
        began, items = time.perf_counter(), self._gather(first)
        try:
            if items:
                self._ask(items)
            self._runner.look()
        except ArmTimeoutError:
            self._late(items, began)
        except ArmDiedError as error:
            self._lost(items, "died", began, str(error))
        except Exception as error:  # noqa: BLE001 - a fault of ours: nobody may wait for a thread that has ended
            for item in items:
                self._return(item, None, None)
            self._say(f"could not be asked: {error!r}")

    def _patience(self) -> float:
        return min(self.arm.timeout, self.deadline * DEADLINE_SHARE)

    def _gather(self, first: Item | None) -> list[Item]:
        """What a canary has waiting, as one batch; a shadow's batches come as the champion had them."""
        items, rows = ([] if first is None else [first]), 0
        while first is not None and first.asks and rows < LARGEST_BATCH:
            item = self._taken()
            if not isinstance(item, Item):
                if item is not _EMPTY:
                    self._items.put(item)
                break
            items.append(item)
            rows += len(item.names)
        with self._lock:
            self._waiting = max(0, self._waiting - sum(len(item.names) for item in items))
        late = time.monotonic() - self._patience() / 2
        fresh: list[Item] = []
        for item in items:
            if item.asks and item.since < late:  # it must not wait for the challenger's others and then for its own
                self._return(item, "dropped", None)
            elif (framed := self._framed(item)) is not None:
                fresh.append(framed)
        return fresh

    def _framed(self, item: Item) -> Item | None:
        if item.frame is not None:
            return replace(item, frame=item.picked(), spans=None)
        try:
            frame = self.champion.frame([row for ask in item.asks for row in ask.rows])
        except Exception:  # noqa: BLE001 - the champion meets the same, and tells the caller
            self._return(item, None, None)
            return None
        return replace(item, frame=frame)

    def _ask(self, items: list[Item]) -> None:
        assert self._runner is not None and self._prepared is not None
        frames = [item.frame for item in items if item.frame is not None]
        counts = [count for item in items for count in item.counts]
        began = time.perf_counter()
        results = self._runner.ask(pl.concat(frames), counts, self._patience())
        seconds, place = time.perf_counter() - began, 0
        self._latency.observe(seconds)
        for item in items:
            found = results[place : place + len(item.counts)]
            place += len(found)
            good = [result for result in found if isinstance(result, np.ndarray)]
            if not item.asks and len(good) == len(found):
                self._settle(item, np.concatenate(good), seconds)
            else:
                for one, result in zip(item.apart(), found, strict=True):
                    self._settle(one, result, seconds)

    def _settle(self, item: Item, result: np.ndarray | Miss, seconds: float) -> None:
        """Pass on what one request, or a shadow's batch of good answers, came to."""
        assert self._prepared is not None
        if isinstance(result, np.ndarray):
            item = item if item.moment is not None else replace(item, moment=self.now())
            for ask in item.asks:
                deliver([ask], [Answer(self._prepared.face, result)])
            self._tell(item, "ok", seconds, result)
            self._succeeded(len(item.counts))
            return
        self.reason = result.words
        if item.asks:  # held against it once the champion has answered: rows may be nobody's to answer
            self._return(item, result.outcome, seconds)
        else:
            self._tell(item, result.outcome, seconds)
            self._failed(result.outcome, 1)

    def _succeeded(self, count: int) -> None:
        with self._lock:
            self.fuse.succeeded(count)
        self._streak += count
        if self._streak >= PAUSE_RESET:
            self._pause = FIRST_PAUSE

    def _late(self, items: list[Item], began: float) -> None:
        """Its requests go to the champion; the process may have met a busy machine, and is waited for a while."""
        seconds, reason = time.perf_counter() - began, f"no answer within {self._patience():g} s"
        for item in items:
            self._return(item, "timeout", seconds)
        self._enter("late", reason)
        self._failed("timeout", 1)
        assert self._runner is not None
        try:
            self._runner.forgive(GRACE_SECONDS, lambda: self.state == "late")
        except (ArmTimeoutError, ArmDiedError):
            self._broken("timeout", reason, counted=True)
        else:
            self._enter("ready", reason)

    def _lost(self, items: list[Item], outcome: str, began: float, reason: str) -> None:
        """The process is of no more use: its requests go to the champion first, then it is ended."""
        seconds = time.perf_counter() - began
        for item in items:
            self._return(item, outcome, seconds)
        self._broken(outcome, reason)

    def _broken(self, outcome: str, reason: str, *, counted: bool = False) -> None:
        self._streak, self._due = 0, time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LAST_PAUSE)
        self._enter("restarting", reason)
        if not counted:
            self._failed(outcome, 1)
        self._drop()
        self._say(f"is started again: {reason}" if not self.fuse.blown else f"is ended: {reason}")

    def _failed(self, outcome: str, count: int) -> None:
        with self._lock:
            blown = self.fuse.failed(count)
        if blown:
            self.metrics.arm_fused.set(1)
            self._enter("fused", f"{self.fuse.failures} failures, the last: {outcome} {self.reason}".strip())
            self._say(f"is asked no more here: {self.reason}")
            self._items.put(None)  # so that the thread wakes, and ends the process

    def _return(self, item: Item, outcome: str | None, seconds: float | None) -> None:
        """Without an answer: a canary's requests go to the champion, a shadow's are logged. None: nothing is held."""
        for ask in item.asks:
            ask.fallback = Fallback(None if outcome is None else self, outcome or "ended", seconds)
            self.give_back(ask)
        if not item.asks and outcome is not None:
            self._tell(item, outcome, seconds)

    def _tell(self, item: Item, outcome: str, seconds: float | None, outputs: np.ndarray | None = None) -> None:
        """Count and log what became of `item`."""
        arm, moment = self.arm, self.now() if item.moment is None else item.moment
        self.metrics.arm_requests.labels(arm.kind, outcome).inc(len(item.counts))
        frame = item.picked().clone()  # the log's thread has an object of its own, see batching
        self.log(Logged(arm.bundle, moment, item.names, frame, outputs, item.release, arm.kind, outcome, seconds))

    def _drop(self) -> None:
        if self._runner is not None:
            self._runner.end()
            self._runner = None

    def _say(self, text: str) -> None:
        print(f"serving: challenger {self.arm.bundle[:12]} ({self.arm.kind}) {text}", flush=True)
