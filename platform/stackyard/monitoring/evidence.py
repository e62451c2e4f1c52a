"""Days of the prediction log as summaries, made once and kept: what the verdicts on a model rest on.

A day is measured in the bins of one bundle's reference, the champion's, whoever answered: after a promotion the days
before it are summed up again, since their inputs are in the log. What was made lies in the store under a name that
follows from all it was made of, so a worker that is killed repeats nothing wrong and another one nothing at all.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stackyard.data.day_facts import DayFacts
from stackyard.monitoring import join
from stackyard.monitoring.days import DaySummary
from stackyard.monitoring.join import Joined
from stackyard.monitoring.logs import Files
from stackyard.monitoring.summing import Summing
from stackyard.monitoring.yardstick import Yardstick
from stackyard.spec.models import MonitoringSpec
from stackyard.store import layout
from stackyard.store.documents import canonical
from stackyard.store.objects import Store, sha256

KIND, VERSION = "day-evidence", 1
_MEMO = 400
"""Days remembered by a process."""


@dataclass(frozen=True)
class DayEvidence:
    """What is known of one day."""

    day: dt.date
    summaries: tuple[DaySummary, ...]
    """One for each bundle and arm that answered, the champion's first; one without rows when nobody did."""
    facts: DayFacts
    """What the rules about quality look at."""
    troubles: dict[str, str]
    """What could not be made, by what was tried: an unreadable file's key, `features`, `kpi`."""
    digest: str
    """Of everything it was made of."""

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        summaries = [summary.model_dump(mode="json") for summary in self.summaries]
        facts = self.facts.model_dump(mode="json")
        return {"day": self.day.isoformat(), "summaries": summaries, "facts": facts, "troubles": self.troubles}


@dataclass
class Evidence:
    """Makes and finds the evidence of days. Not for several threads."""

    store: Store
    model: str
    spec: MonitoringSpec
    cache: Path
    """Local copies of bundles and code."""
    _yardsticks: dict[str, Yardstick] = field(default_factory=dict)
    _memo: dict[tuple[str, str], tuple[DayEvidence, dt.datetime | None]] = field(default_factory=dict)
    _first: dt.date | None = None

    def __post_init__(self) -> None:
        self.files = Files(self.store, self.model)
        """The log; within `files.listed_once()` many days cost one listing of each folder."""

    def yardstick(self, bundle: str) -> Yardstick:
        """The measures of a bundle. Raises BundleError or DataError."""
        if bundle not in self._yardsticks:
            self._yardsticks[bundle] = Yardstick.load(self.store, bundle, self.cache)
        return self._yardsticks[bundle]

    def first_day(self) -> dt.date | None:
        """The oldest day with predictions; None without any. Asked of the store once: that lists the whole log."""
        if self._first is not None:
            return self._first
        prefix = layout.predictions(self.model, "", "").rstrip("/")
        for key in self.store.keys(prefix):
            try:
                self._first = dt.date.fromisoformat(key[len(prefix) + 1 :].partition("/")[0])
            except ValueError:  # not a file of ours
                continue
            break
        return self._first

    def day(self, day: dt.date, champion: str, now: dt.datetime) -> DayEvidence:
        """The evidence of `day` in the bins of bundle `champion`, as far as it is known at `now`.

        Raises BundleError or DataError when the champion's bundle or code cannot be read.
        """
        listing = join.listing(self.files, day, self.spec.label_delay, now)
        memo = (champion, listing.digest)
        if memo in self._memo and _known(self._memo[memo][1], now):
            return self._memo[memo][0]
        yardstick = self.yardstick(champion)
        joined = join.join(self.files, listing, yardstick.task, self.spec.label_delay, now)
        name = self._name(yardstick, joined)
        found = self._stored(day, name)
        if found is None:
            found = self._made(day, name, joined, yardstick)
            self.store.keep(layout.evidence(self.model, day.isoformat(), f"{name}.json"), _document(found))
        if not joined.cut:
            if len(self._memo) >= _MEMO:
                self._memo.pop(next(iter(self._memo)))
            self._memo[memo] = (found, joined.newest)
        return found

    def _name(self, yardstick: Yardstick, joined: Joined) -> str:
        """Follows from the rows, their labels, and everything that says how they are summed up."""
        rules = self.spec.model_dump(mode="json", include={"slices", "kpi"})
        facts = {"version": VERSION, "reference": yardstick.bundle, "rows": joined.digest, "rules": rules}
        return sha256(canonical(facts))[:40]

    def _stored(self, day: dt.date, name: str) -> DayEvidence | None:
        try:
            found = json.loads(self.store.read(layout.evidence(self.model, day.isoformat(), f"{name}.json")))
            if (found["kind"], found["version"]) != (KIND, VERSION):
                return None
            summaries = tuple(DaySummary.model_validate_json(json.dumps(each)) for each in found["summaries"])
            facts = DayFacts.model_validate_json(json.dumps(found["facts"]))
        except (KeyError, TypeError, ValueError):  # absent, or cut off by a loss of power
            return None
        return DayEvidence(day, summaries, facts, found["troubles"], name)

    def _made(self, day: dt.date, name: str, joined: Joined, yardstick: Yardstick) -> DayEvidence:
        keys = {*joined.listing.predictions, *joined.listing.labels}
        making = Summing(self.model, day, yardstick, self.spec, joined)
        for batch in join.batches(self.files, joined, yardstick.columns):
            making.add(batch)
        troubles = {key: why for key, why in self.files.unreadable.items() if key in keys}
        summaries = making.summaries()
        return DayEvidence(day, summaries, making.facts(), troubles | making.troubles, name)


def _known(newest: dt.datetime | None, now: dt.datetime) -> bool:
    """Whether all that a summary rests on had happened at `now`."""
    return newest is None or newest <= now


def _document(found: DayEvidence) -> bytes:
    return canonical({"kind": KIND, "version": VERSION, **found.plain()})
