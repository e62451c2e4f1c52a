"""A worker whose answers the test gives: questions are kept, and answered when and how the test says."""

from __future__ import annotations

from typing import Any


class FakeWorker:
    """Stands in for `stackyard.control.worker.Worker`.

    `answers` maps a kind to its result, to a function of the arguments that gives it, or to an exception, which
    becomes an error. A question of another kind stays open until `answer` or `fail` is called.
    """

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []
        """(kind, arguments) of every question, oldest first."""
        self.open: dict[str, str] = {}
        """Ticket to kind of the questions without an answer, oldest first."""
        self.stopped = False
        self._found: dict[str, dict[str, Any]] = {}

    def ask(self, kind: str, **arguments: Any) -> str:
        ticket = f"{kind}-{len(self.asked)}"
        self.asked.append((kind, arguments))
        if kind not in self.answers:
            self.open[ticket] = kind
            return ticket
        given = self.answers[kind]
        found = given(**arguments) if callable(given) else given
        self._found[ticket] = {"error": str(found)} if isinstance(found, Exception) else {"result": found}
        return ticket

    def poll(self) -> dict[str, dict[str, Any]]:
        found, self._found = self._found, {}
        return found

    def answer(self, result: Any, kind: str | None = None) -> None:
        """Answer the oldest open question (of `kind`)."""
        self._found[self._close(kind)] = {"result": result}

    def fail(self, reason: str, kind: str | None = None) -> None:
        """Answer the oldest open question (of `kind`) with an error."""
        self._found[self._close(kind)] = {"error": reason}

    def stop(self) -> None:
        self.stopped = True

    def _close(self, kind: str | None) -> str:
        ticket = next(ticket for ticket, asked in self.open.items() if kind in (None, asked))
        del self.open[ticket]
        return ticket
