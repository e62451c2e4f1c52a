"""Day by day: the rows of a past day are asked as they came, truths follow when they were known, and time stands
still while the loop is at work.

It may be killed at any moment. The next call begins the unfinished day again: what the store holds is not asked
again, what it lacks is. The clock only moves forward.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from stackyard.data import sources
from stackyard.replay import rows
from stackyard.replay.diary import Diary, Entry, entry
from stackyard.replay.rows import STEP, STEPS, Day, Request, midnight
from stackyard.replay.sending import Sender, Traffic
from stackyard.replay.yard import ReplayError, Yard
from stackyard.spec.models import ProjectSpec

ONE = dt.timedelta(days=1)


@dataclass
class Replay:
    """One replay of a stack."""

    project: ProjectSpec
    folder: Path
    """The project's folder."""
    yard: Yard
    diary: Diary
    sample: float = 1.0
    patience: float = 7200.0
    """Seconds that the loop may take over one midnight."""
    say: Callable[[str], None] = lambda _: None
    """Told what is being done."""
    _known: dict[dt.date, Day] = field(default_factory=dict)

    @cached_property
    def _source(self) -> Callable[..., Any] | None:
        return sources.function_of(self.project.data, self.folder)

    @property
    def start(self) -> dt.date:
        """The first day: the one after the first model's data."""
        return self.project.data.window.end

    def days(self, until: dt.date) -> Iterator[Entry]:
        """Live through the days before `until` that are not over yet. Raises ReplayError or DataError."""
        day = self.diary.next_day(self.start)
        if day < until:
            self.yard.forward(midnight(day))
            self._settle(midnight(day))
        while day < until:
            yield self._live(day)
            day += ONE

    def read(self, day: dt.date) -> Day:
        """The requests of `day`; the last few days are remembered."""
        if day not in self._known:
            oldest = day - ONE * (2 + self._label_days())
            self._known = {known: found for known, found in self._known.items() if known >= oldest}
            self._known[day] = rows.read(self.project, self.folder, day, self.sample, self._source)
        return self._known[day]

    def _live(self, day: dt.date) -> Entry:
        began = time.monotonic()
        try:
            fresh = self.diary.begin(day, {"sample": self.sample})
        except ValueError as error:
            raise ReplayError(str(error)) from None
        found = self.read(day)
        answered, told = frozenset[str](), frozenset[str]()
        if not fresh:
            self.yard.flush()
            answered, told = self.yard.logged(day), self.yard.told(day)
        self.say(f"{len(found.requests)} requests")
        traffic, labels = asyncio.run(self._ask(found, answered, told))
        self._see_logged(found, traffic)
        asked = time.monotonic()
        self.yard.forward(midnight(day + ONE))
        self._settle(midnight(day + ONE))
        ended = time.monotonic()
        over = entry(day, len(found.requests), labels, traffic, ended - began, ended - asked)
        self.diary.end(over)
        return over

    async def _ask(self, day: Day, answered: frozenset[str], told: frozenset[str]) -> tuple[Traffic, int]:
        """Every step of the day; returns what came back, and how many truths were due."""
        traffic, labels = Traffic(), 0
        by_step: list[list[Request]] = [[] for _ in range(STEPS)]
        for request in day.requests:
            if request.request_id not in answered:
                by_step[request.step].append(request)
        past = self._past(day.day)
        async with Sender(self.yard.predict, self.yard.token(), self.diary.failed) as sender:
            for step, asked in enumerate(by_step):
                now = midnight(day.day) + step * STEP
                self.yard.forward(now, midnight(day.day))  # the loop weighs whole days
                known = rows.due([*past, day], now, now + STEP, self.project.monitoring.label_delay)
                labels += len(known)
                telling = asyncio.create_task(sender.tell([each for each in known if each.request_id not in told]))
                traffic.add(await sender.ask(asked))
                try:
                    await telling
                except OSError as error:
                    raise ReplayError(str(error)) from None
        return traffic, labels

    def _past(self, day: dt.date) -> list[Day]:
        span = self._label_days()
        days = [day - ONE * back for back in range(span, 0, -1)]
        return [self.read(each) for each in days if each >= self.start]

    def _label_days(self) -> int:
        return int(self.project.monitoring.label_delay // ONE.total_seconds()) + 1

    def _see_logged(self, day: Day, traffic: Traffic) -> None:
        """See that the store holds every row of the day; one that a dying replica took with it is asked again."""
        missing: frozenset[str] = frozenset()
        for _ in range(3):
            self.yard.flush()
            missing = day.ids - self.yard.logged(day.day) - set(traffic.lost)
            if not missing:
                return
            self.say(f"{len(missing)} answers are not in the log: asking again")
            again = [request for request in day.requests if request.request_id in missing]
            traffic.add(asyncio.run(self._again(again)))
        raise ReplayError(f"{len(missing)} rows of {day.day} were answered and are not in the store")

    async def _again(self, requests: list[Request]) -> Traffic:
        async with Sender(self.yard.predict, self.yard.token(), self.diary.failed) as sender:
            return await sender.ask(requests)

    def _settle(self, at: dt.datetime) -> None:
        self.yard.settle(at, self.say, self.patience)
