"""Questions whose answers take longer than a look at the world may: asked once, answered beside the loop."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Protocol

from stackyard.control.world import Answer

AGAIN = dt.timedelta(seconds=30)
"""On the machine's clock: how long a question that failed rests."""


class Worker(Protocol):
    """Whoever finds things out: `stackyard.control.worker`, or a fake."""

    def ask(self, kind: str, **arguments: Any) -> str:
        """Begin to find out; the ticket names the answer."""
        ...

    def poll(self) -> Mapping[str, Any]:
        """The answers since the last call, by ticket: `{"result": ...}` or `{"error": text}`."""
        ...


class Inquiries:
    """At most one open question of each kind, and the newest answer."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._tickets: dict[str, tuple[str, str]] = {}
        self._answers: dict[str, Answer] = {}
        self._failed: dict[str, dt.datetime] = {}

    def ask(self, kind: str, key: str, arguments: Mapping[str, Any]) -> None:
        """Ask, unless a question of this kind is open."""
        if any(open_kind == kind for open_kind, _ in self._tickets.values()):
            return
        self._tickets[self._worker.ask(kind, **arguments)] = (kind, key)
        old = self._answers.get(kind)
        if old is None or old.body is None or kind != "stage":  # an older verdict on a stage serves until the next
            self._answers[kind] = Answer(key)

    def collect(self, machine: dt.datetime) -> list[tuple[str, Answer]]:
        """The answers that came since the last call, as (kind, answer)."""
        came = []
        for ticket, found in self._worker.poll().items():
            if ticket not in self._tickets:  # told twice
                continue
            kind, key = self._tickets.pop(ticket)
            if "error" in found:
                self._answers[kind] = Answer(key, failure=str(found["error"]))
                self._failed[kind] = machine
            else:
                self._answers[kind] = Answer(key, found["result"])
                came.append((kind, self._answers[kind]))
        for kind, since in list(self._failed.items()):
            if machine - since >= AGAIN:
                del self._failed[kind]
                if self._answers[kind].failure is not None:
                    del self._answers[kind]
        return came

    def answer(self, kind: str) -> Answer | None:
        """The newest answer of this kind, or the question that is open."""
        return self._answers.get(kind)
