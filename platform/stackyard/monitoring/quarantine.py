"""Days that cannot be believed: found from the evidence, kept away from training and judging, let go by hand only.

Each day is judged against the sound days before it. Once no label can reach a day any more its verdict is written
down, create-only, and stands: a later champion, with another reference, does not put last spring into question.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stackyard.data import quality
from stackyard.data.day_facts import DayFacts
from stackyard.data.quality import QualityFinding
from stackyard.monitoring.evidence import Evidence
from stackyard.monitoring.join import LATE_DAYS
from stackyard.monitoring.logs import days_between
from stackyard.store import layout
from stackyard.store.documents import canonical

KIND, VERSION = "day-quality", 1
_NAME = "quality.json"
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class JudgedDay:
    """One day and what speaks against it."""

    facts: DayFacts
    findings: tuple[QualityFinding, ...]
    judged: dt.datetime
    """When that was known."""
    released: dt.datetime | None = None
    """When a person let it go."""

    @property
    def day(self) -> dt.date:
        """The day."""
        return self.facts.day

    @property
    def quarantined(self) -> bool:
        """Whether it neither trains nor judges a model."""
        return bool(self.findings) and self.released is None

    def sound(self, by: dt.datetime) -> bool:
        """Whether days from `by` on are judged against this one.

        A day that was let go later is no measure for them: each doubted day is let go by hand, for itself.
        """
        return not self.findings or (self.released is not None and self.released <= by)

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "day": self.day.isoformat(),
            "quarantined": self.quarantined,
            "released": self.released is not None,
            "findings": [finding.plain() for finding in self.findings],
        }


@dataclass
class Quarantine:
    """Judges the days of one model's log. Not for several threads."""

    evidence: Evidence
    _settled: dict[dt.date, JudgedDay] = field(default_factory=dict)

    def days(
        self, until: dt.date, champion: str, now: dt.datetime, released: Mapping[dt.date, dt.datetime] | None = None
    ) -> list[JudgedDay]:
        """Every day with a log before `until`, oldest first, as known at `now`. Raises as Evidence.day does."""
        first = self.evidence.first_day()
        found: list[JudgedDay] = []
        for day in days_between(first, until - _DAY) if first is not None else ():
            found.append(self._day(day, champion, now, found, (released or {}).get(day)))
        return found

    def _day(
        self, day: dt.date, champion: str, now: dt.datetime, past: Sequence[JudgedDay], released: dt.datetime | None
    ) -> JudgedDay:
        settled = self._standing(day, now)
        if settled is not None:
            return JudgedDay(settled.facts, settled.findings, settled.judged, released)
        facts = self.evidence.day(day, champion, now).facts
        reference = self.evidence.yardstick(champion)
        begin = dt.datetime.combine(day, dt.time(), dt.UTC)
        history = [one.facts for one in past[-4 * quality.DAYS :] if one.sound(begin)]
        before = past[-1] if past and not past[-1].sound(begin) else None
        findings = quality.judge_day(
            facts,
            reference.reference,
            history,
            self.evidence.spec.quality,
            reference.task,
            None if before is None else (before.facts, before.findings),
        )
        made = JudgedDay(facts, tuple(findings), now, released)
        if now >= self._end(day):
            self._settle(made)
        return made

    def _end(self, day: dt.date) -> dt.datetime:
        """From when on no label reaches `day`."""
        late = math.ceil(self.evidence.spec.label_delay / 86_400) + LATE_DAYS + 1
        return dt.datetime.combine(day, dt.time(), dt.UTC) + dt.timedelta(days=late)

    def _settle(self, made: JudgedDay) -> None:
        document = {
            "kind": KIND,
            "version": VERSION,
            "judged": made.judged.isoformat(),
            "facts": made.facts.model_dump(mode="json"),
            "findings": [finding.plain() for finding in made.findings],
        }
        self.evidence.store.create(self._key(made.day), canonical(document))

    def _standing(self, day: dt.date, now: dt.datetime) -> JudgedDay | None:
        """The verdict that was written down, if it was by `now`."""
        if day not in self._settled:
            if now < self._end(day) or (found := self._read(day)) is None:
                return None
            self._settled[day] = found
        found = self._settled[day]
        return found if found.judged <= now else None

    def _read(self, day: dt.date) -> JudgedDay | None:
        try:
            found = json.loads(self.evidence.store.read(self._key(day)))
            if (found["kind"], found["version"]) != (KIND, VERSION):
                return None
            facts = DayFacts.model_validate_json(json.dumps(found["facts"]))
            findings = tuple(QualityFinding(**finding) for finding in found["findings"])
            return JudgedDay(facts, findings, dt.datetime.fromisoformat(found["judged"]))
        except (KeyError, TypeError, ValueError):  # absent, or cut off by a loss of power
            return None

    def _key(self, day: dt.date) -> str:
        return layout.evidence(self.evidence.model, day.isoformat(), _NAME)
