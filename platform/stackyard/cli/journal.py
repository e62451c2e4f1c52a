"""What the controller noted, read beside it: nothing here waits for it, and a database that is away is empty."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackyard.cli.stack import StackCard

if TYPE_CHECKING:
    from stackyard.control.journal import Journal

NOTES = ("verdicts", "stage", "policy", "rollout", "alerts", "candidates")


def runs(card: StackCard) -> list[dict[str, Any]]:
    """Every intended run, oldest first: run_id, number, reason, created, wish."""
    with _reading(card) as book:
        return [] if book is None else _runs(book, card.model)
    return []


def notes(card: StackCard) -> dict[str, Any]:
    """The newest documents by name, and `pulse`: how far the loop has come; those that are absent are left out."""
    with _reading(card) as book:
        return {} if book is None else _notes(book, card.model)
    return {}


def _runs(book: Journal, model: str) -> list[dict[str, Any]]:
    return [
        {
            "run_id": row.run_id,
            "number": row.number,
            "reason": row.reason,
            "created": row.created,
            "wish": row.wish,
        }
        for row in book.runs(model)
    ]


def _notes(book: Journal, model: str) -> dict[str, Any]:
    found = {name: body for name in NOTES if (body := book.read(model, name)) is not None}
    pulse = book.pulse(model)
    if pulse is not None:
        found["pulse"] = {"at": pulse.at, "settled": pulse.settled, "why": pulse.why}
    return found


@contextmanager
def _reading(card: StackCard) -> Iterator[Journal | None]:
    """The journal, or None while there is none; a database that fails ends the block."""
    from sqlalchemy.exc import SQLAlchemyError

    from stackyard.control.journal import Journal

    path = card.database.removeprefix("sqlite:///")
    if card.database.startswith("sqlite") and not Path(path).exists():
        yield None
        return
    book = Journal(card.database)
    try:
        yield book
    except SQLAlchemyError:
        return
    finally:
        book.close()
