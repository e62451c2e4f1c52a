"""Decisions and intents in SQL: what was decided, when and why, and which runs were meant to be.

One writer (the controller); anybody may read. SQLite locally, with a write-ahead log so that `status` never waits.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import sqlalchemy.event
from alembic import command
from alembic.config import Config as AlembicSettings
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    """The tables of the journal."""


class Decision(Base):
    """A decision and its reason; a decision that stays the same is one row with a moving `last_seen`."""

    __tablename__ = "decisions"
    id: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(index=True)
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
    pid: Mapped[int | None]
    started: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(default=0)
    projected: Mapped[bool] = mapped_column(default=False)


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

    def record(self, model: str, kind: str, reason: str, now: dt.datetime) -> bool:
        """Note a decision; returns whether it differs from the one before."""
        stamp = now.isoformat(timespec="seconds")
        with Session(self._engine) as session, session.begin():
            last = session.scalars(
                sa.select(Decision).where(Decision.model == model).order_by(Decision.id.desc()).limit(1)
            ).first()
            if last is not None and (last.kind, last.reason) == (kind, reason):
                last.last_seen = stamp
                return False
            session.add(Decision(model=model, kind=kind, reason=reason, first_seen=stamp, last_seen=stamp))
            return True

    def intend(self, run: Run) -> None:
        """Note an intended run; one that is already noted stays as it is."""
        with Session(self._engine) as session, session.begin():
            if session.get(Run, run.run_id) is None:
                session.add(run)

    def started(self, run_id: str, pid: int, now: dt.datetime) -> None:
        """Note the process that carries a run out."""
        self._update(run_id, pid=pid, started=now.isoformat(), attempts=Run.attempts + 1)

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
