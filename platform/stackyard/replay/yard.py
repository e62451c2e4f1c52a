"""The stack that a replay lives in, as seen from outside: its clock, its journal's pulse, its replicas, its log."""

from __future__ import annotations

import datetime as dt
import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import polars as pl

from stackyard.clock import FileClock
from stackyard.control.journal import Journal
from stackyard.serving.flush import FlushError, flush_all
from stackyard.store import layout, releases
from stackyard.store.keys import read_private
from stackyard.store.objects import Store

LOOK = 0.05
"""Seconds between two looks at something that is waited for."""


class ReplayError(Exception):
    """Why a replay cannot go on; running it again goes on from there."""


@dataclass(frozen=True)
class Yard:
    """Addresses and files of one running stack, all from its card."""

    model: str
    state: Path
    store: Store
    database: str
    predict: str
    replica_ports: tuple[int, ...]
    trusted: tuple[str, ...]
    token_path: Path
    clock: FileClock

    def token(self) -> str:
        """What `POST /labels` and `POST /flush` ask for."""
        return read_private(self.token_path).decode().strip()

    def forward(self, to: dt.datetime, known: dt.datetime | None = None) -> None:
        """Move the clock on, never back; the loop lives at `known` meanwhile (absent: at the same time)."""
        if to > self.clock.now():
            self.clock.set(to, known)

    def flush(self) -> None:
        """See every replica's log in the store. Raises ReplayError."""
        why = ""
        for again in range(5):
            try:
                if flush_all(self.replica_ports, self.token()):
                    return
                raise FlushError("no replica answers")
            except FlushError as error:  # one that is just being replaced
                why = str(error)
                time.sleep(0.25 * 2**again)
        raise ReplayError(f"the logs cannot be flushed: {why}")

    def logged(self, day: dt.date) -> frozenset[str]:
        """Ids of the requests of `day` that the store holds an answer for."""
        frames = self.tables(layout.predictions(self.model, day.isoformat(), ""), ["request_id", "arm", "outcome"])
        found = [for_users(frame)["request_id"] for frame in frames]
        return frozenset(pl.concat(found).to_list()) if found else frozenset()

    def told(self, day: dt.date) -> frozenset[str]:
        """Ids of the requests whose truth arrived on `day`."""
        frames = list(self.tables(layout.labels(self.model, day.isoformat(), ""), ["request_id"]))
        return frozenset(pl.concat(frames)["request_id"].to_list()) if frames else frozenset()

    def tables(self, prefix: str, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """The Parquet files under `prefix`, those of `columns` that each has."""
        for key in self.store.keys(prefix.rstrip("/")):
            data = io.BytesIO(self.store.read(key))
            there = pl.read_parquet_schema(data)
            yield pl.read_parquet(data, columns=[name for name in columns if name in there])

    def settle(self, at: dt.datetime, say: Callable[[str], None], patience: float) -> None:
        """Wait until every decision of the time `at` was made and every replica serves what was decided.

        `say` is told what is waited for. Raises ReplayError after `patience` seconds.
        """
        deadline = time.monotonic() + patience
        journal = Journal(self.database)
        client = httpx.Client(timeout=2.0, trust_env=False)
        try:
            while True:
                why = self._unsettled(journal, at) or self._behind(client)
                if why is None:
                    return
                say(why)
                if time.monotonic() > deadline:
                    raise ReplayError(f"{at:%Y-%m-%d %H:%M} is not settled after {patience / 60:.0f} minutes: {why}")
                time.sleep(LOOK)
        finally:
            client.close()
            journal.close()

    def _unsettled(self, journal: Journal, at: dt.datetime) -> str | None:
        pulse = journal.pulse(self.model)
        if pulse is None:
            return "the controller has not begun"
        seen = dt.datetime.fromisoformat(pulse.at)
        if seen.replace(tzinfo=seen.tzinfo or dt.UTC) < at:
            return "the controller has not looked yet"
        return None if pulse.settled else pulse.why or "the controller is at work"

    def _behind(self, client: httpx.Client) -> str | None:
        newest = releases.newest(self.store, self.model, self.trusted)
        if newest is None:
            return "no model was released"
        found = [facts for port in self.replica_ports if (facts := _replica(client, port)) is not None]
        if not found:
            return "no replica answers"
        behind = [facts for facts in found if facts.get("release") != newest.number]
        if behind:
            return f"{len(behind)} replicas do not serve release {newest.number} yet"
        # A challenger that is not asked because its process still starts would be judged by how fast this machine is.
        loading = [facts for facts in found if any(arm.get("state") == "loading" for arm in facts.get("arms", ()))]
        return f"{len(loading)} replicas are loading the challenger" if loading else None


def for_users(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of a log file whose answers reached a user: the champion's, and those that a canary gave."""
    if "arm" not in table.columns:  # written before there were arms
        return table
    return table.filter(pl.col("arm").is_in(["champion", "canary"]) & (pl.col("outcome") == "ok"))


def _replica(client: httpx.Client, port: int) -> dict[str, Any] | None:
    try:
        facts = client.get(f"http://127.0.0.1:{port}/v2").json()
    except (httpx.HTTPError, ValueError):
        return None
    return None if facts.get("draining") else facts
