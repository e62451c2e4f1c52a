"""A day that cannot be believed is kept apart; what was settled stands, and is never told before it was known."""

import datetime as dt
from pathlib import Path

import pytest

from logbook import at, label, prediction, toy_bundle, toy_rows, write_labels, write_predictions
from stackyard.monitoring.evidence import Evidence
from stackyard.monitoring.quarantine import Quarantine
from stackyard.spec.models import MonitoringSpec
from stackyard.store.objects import Store

FIRST = dt.date(2030, 1, 2)
DAYS, ROWS = 10, 150
DAY = dt.timedelta(days=1)
SETTLED = at("2030-02-01 00:00")


class Yard:
    """Ten days of predictions; on the sixth most distances are missing."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, Store.open(folder / "store")
        self.champion, self.later = (toy_bundle(self.store, folder, seed=seed) for seed in (0, 1))
        for day in range(DAYS):
            begin = at("2030-01-02 00:00") + day * DAY
            asked = []
            for number, row in enumerate(toy_rows(ROWS, seed=day).iter_rows(named=True)):
                distance = None if day == 5 and number % 10 else row["distance"]
                when = begin + dt.timedelta(minutes=number)
                inputs = {"distance": distance, "carrier": row["carrier"], "input_time": when}
                asked.append(prediction(f"d{day}-{number}", when, row["output"], bundle=self.champion, **inputs))
            write_predictions(self.store, "m", asked)
            write_labels(self.store, "m", [label(f"d{day}-{n}", begin + DAY, n % 2) for n in range(ROWS)])

    def quarantine(self) -> Quarantine:
        return Quarantine(Evidence(self.store, "m", MonitoringSpec(), self.folder / "cache"))

    def written(self) -> list[str]:
        return [key.split("/")[2] for key in self.store.keys("evidence/m") if key.endswith("quality.json")]


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


def test_the_bad_day_alone_is_quarantined_with_its_reason(yard: Yard) -> None:
    found = yard.quarantine().days(FIRST + DAYS * DAY, yard.champion, at("2030-01-12 00:00"))
    assert [one.day for one in found] == [FIRST + n * DAY for n in range(DAYS)]
    (bad,) = [one for one in found if one.quarantined]
    assert bad.day == dt.date(2030, 1, 7)
    assert {(one.code, one.column) for one in bad.findings} >= {("missing", "distance")}


def test_a_person_lets_a_day_go_and_its_findings_stay_told(yard: Yard) -> None:
    released = {dt.date(2030, 1, 7): at("2030-01-11 00:00")}
    found = yard.quarantine().days(FIRST + DAYS * DAY, yard.champion, at("2030-01-12 00:00"), released)
    assert not any(one.quarantined for one in found)
    assert found[5].plain()["released"]
    assert found[5].plain()["findings"]


def test_a_verdict_is_written_down_once_no_label_can_reach_its_day(yard: Yard) -> None:
    yard.quarantine().days(FIRST + DAYS * DAY, yard.champion, at("2030-01-11 00:00"))
    assert yard.written() == ["2030-01-02"]
    yard.quarantine().days(FIRST + DAYS * DAY, yard.champion, SETTLED)
    assert yard.written() == [(FIRST + n * DAY).isoformat() for n in range(DAYS)]


def test_what_was_written_down_stands_whatever_comes_later_and_is_not_known_earlier(yard: Yard) -> None:
    first = yard.quarantine().days(FIRST + DAYS * DAY, yard.champion, SETTLED)
    begin = at("2030-01-03 00:00")
    flood = [prediction(f"x{n}", begin, 0.5, bundle=yard.later, distance=None, carrier="rocket") for n in range(900)]
    write_predictions(yard.store, "m", flood)
    later = yard.quarantine().days(FIRST + DAYS * DAY, yard.later, SETTLED + DAY)
    assert [one.plain() for one in later] == [one.plain() for one in first]
    before = yard.quarantine().days(FIRST + DAYS * DAY, yard.champion, at("2030-01-31 00:00"))
    assert [one.day for one in before if one.quarantined] == [dt.date(2030, 1, 3), dt.date(2030, 1, 7)]


def test_no_log_no_days(tmp_path: Path) -> None:
    evidence = Evidence(Store.open(tmp_path / "store"), "m", MonitoringSpec(), tmp_path / "cache")
    assert Quarantine(evidence).days(FIRST, "0" * 64, SETTLED) == []
