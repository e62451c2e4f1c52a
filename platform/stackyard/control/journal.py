"""Decisions and intents in SQL: what was decided, when and why, and which runs were meant to be.

One writer (the controller); anybody may read. SQLite locally, with a write-ahead log so that `status` never waits.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import sqlalchemy.event
from alembic import command
from alembic.config import Config as AlembicSettings
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    """The tables of the journal."""


class Decision(Base):
    """A decision and its reason; a decision that stays the same is one row with a moving `last_seen`."""

    __tablename__ = "decisions"
    __table_args__ = (sa.Index("decisions_by_topic", "model", "topic", "id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(index=True)
    topic: Mapped[str] = mapped_column(default="")
    """What it is about: a decision follows the one before on the same topic."""
    kind: Mapped[str]
    reason: Mapped[str]
    first_seen: Mapped[str]
    """RFC 3339, UTC."""
    last_seen: Mapped[str]


class Run(Base):
    """One intended run. A number is used once per model, so two writers cannot both intend it."""

    __tablename__ = "runs"
    __table_args__ = (sa.UniqueConstraint("model", "number"),)
    run_id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(index=True)
    number: Mapped[int]
    recipe: Mapped[str]
    reason: Mapped[str]
    created: Mapped[str]
    """On the model's clock; `started` is on the machine's."""
    pid: Mapped[int | None]
    started: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(default=0)
    projected: Mapped[bool] = mapped_column(default=False)
    wish: Mapped[str | None]
    """The person's wish that asked for it."""
    asked: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))
    """What a retraining learns from and is compared with, fixed when it was intended; none for the first model."""


class Note(Base):
    """The newest of something that people and commands look at: verdicts, policy, rollout, alerts."""

    __tablename__ = "documents"
    model: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[Any] = mapped_column(sa.JSON)
    at: Mapped[str]


class Pulse(Base):
    """How far the loop has come: every decision of the time `at` was made, and `settled` when nothing is under way."""

    __tablename__ = "pulse"
    model: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[str]
    settled: Mapped[bool]
    why: Mapped[str]


class Journal:
    """The controller's memory."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)

    def migrate(self) -> None:
        """Bring the tables to the newest form; safe to repeat."""
        if self._engine.url.drivername.startswith("sqlite") and self._engine.url.database:
            Path(self._engine.url.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        settings = AlembicSettings()
        settings.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        with self._engine.begin() as connection:
            settings.attributes["connection"] = connection
            command.upgrade(settings, "head")

    def record(self, model: str, topic: str, kind: str, reason: str, now: dt.datetime) -> bool:
        """Note a decision; returns whether it differs from the one before on its topic."""
        stamp = now.isoformat(timespec="seconds")
        same_topic = sa.and_(Decision.model == model, Decision.topic == topic)
        with Session(self._engine) as session, session.begin():
            last = session.scalars(sa.select(Decision).where(same_topic).order_by(Decision.id.desc()).limit(1)).first()
            if last is not None and (last.kind, last.reason) == (kind, reason):
                last.last_seen = stamp
                return False
            session.add(Decision(model=model, topic=topic, kind=kind, reason=reason, first_seen=stamp, last_seen=stamp))
            return True

    def intend(self, run: Run) -> None:
        """Note an intended run; one that is noted, or whose number somebody else took, stays as it is."""
        with contextlib.suppress(IntegrityError), Session(self._engine) as session, session.begin():
            if session.get(Run, run.run_id) is None:
                session.add(run)

    def claim(self, run_id: str, attempts: int, now: dt.datetime) -> bool:
        """Take up a run that was started `attempts` times so far; False when somebody else just did."""
        taken = sa.update(Run).where(Run.run_id == run_id, Run.attempts == attempts)
        with self._engine.begin() as connection:
            done = connection.execute(taken.values(attempts=attempts + 1, started=now.isoformat(), pid=None))
        return done.rowcount == 1

    def started(self, run_id: str, pid: int) -> None:
        """Note the process that carries a run out."""
        self._update(run_id, pid=pid)

    def excused(self, run_id: str) -> None:
        """Note that a run was interrupted on purpose: that does not count as a death of its own."""
        self._update(run_id, attempts=Run.attempts - 1)

    def projected(self, run_id: str) -> None:
        """Note that MLflow shows a run."""
        self._update(run_id, projected=True)

    def runs(self, model: str) -> Sequence[Run]:
        """Every intended run of `model`, oldest first."""
        with Session(self._engine, expire_on_commit=False) as session:
            return session.scalars(sa.select(Run).where(Run.model == model).order_by(Run.number)).all()

    def decisions(self, model: str, limit: int = 20) -> Sequence[Decision]:
        """The newest decisions, newest first."""
        with Session(self._engine, expire_on_commit=False) as session:
            query = sa.select(Decision).where(Decision.model == model).order_by(Decision.id.desc()).limit(limit)
            return session.scalars(query).all()

    def everyones(self) -> Sequence[Run]:
        """Every intended run of every model, oldest first."""
        with Session(self._engine, expire_on_commit=False) as session:
            return session.scalars(sa.select(Run).order_by(Run.created, Run.run_id)).all()

    def write(self, model: str, name: str, body: Any, now: dt.datetime) -> None:
        """Replace the document `name`; what stays the same is not written again."""
        with Session(self._engine) as session, session.begin():
            found = session.get(Note, (model, name))
            if found is None:
                session.add(Note(model=model, name=name, body=body, at=now.isoformat()))
            elif found.body != body:
                found.body, found.at = body, now.isoformat()

    def read(self, model: str, name: str) -> Any | None:
        """The document `name`, or None."""
        with Session(self._engine) as session:
            found = session.get(Note, (model, name))
            return None if found is None else found.body

    def beat(self, model: str, at: dt.datetime, settled: bool, why: str) -> None:
        """Note how far the loop has come."""
        with Session(self._engine) as session, session.begin():
            session.merge(Pulse(model=model, at=at.isoformat(), settled=settled, why=why))

    def pulse(self, model: str) -> Pulse | None:
        """How far the loop has come, or None before its first step."""
        with Session(self._engine, expire_on_commit=False) as session:
            return session.get(Pulse, model)

    def close(self) -> None:
        """Give connections back."""
        self._engine.dispose()

    def _update(self, run_id: str, **values: Any) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.update(Run).where(Run.run_id == run_id).values(**values))


def _engine(url: str) -> sa.Engine:
    path = url.removeprefix("sqlite:///")
    # What follows `sqlite:///` is a path to its end; SQLAlchemy would take a `?` in it for the start of options.
    engine = sa.create_engine(url if path == url else sa.URL.create("sqlite", database=path))
    if engine.dialect.name == "sqlite":

        @sqlalchemy.event.listens_for(engine, "connect")
        def _prepare(connection: Any, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA busy_timeout=5000")

    return engine
