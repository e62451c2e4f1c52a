"""A day's evidence says the same whatever the order of its files, is made once, and knows nothing later than now."""

import datetime as dt
import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore

from logbook import at, label, prediction, toy_bundle, toy_rows, write_labels, write_predictions
from stackyard.monitoring import evidence as evidences
from stackyard.monitoring import join, summing
from stackyard.monitoring.days import DaySummary
from stackyard.monitoring.evidence import Evidence
from stackyard.monitoring.scores import load as scores_of
from stackyard.spec.models import MonitoringSpec
from stackyard.store.objects import Store

DAY = dt.date(2030, 1, 2)
LATER = at("2030-01-20 00:00")
ROWS = 300


class Yard:
    """A store with two bundles, and whoever gathers evidence in it."""

    def __init__(self, folder: Path, store: Store | None = None) -> None:
        self.folder, self.store = folder, store or Store.open(folder / "store")
        self.first, self.second = (toy_bundle(self.store, folder, seed=seed) for seed in (0, 1))

    def evidence(self, **spec: Any) -> Evidence:
        return Evidence(self.store, "m", MonitoringSpec.model_validate(spec, strict=False), self.folder / "cache")

    def rows(self, count: int = ROWS, **other: Any) -> list[dict[str, Any]]:
        """Predictions of the day, one a request."""
        found = []
        for number, row in enumerate(toy_rows(ROWS, seed=7).head(count).iter_rows(named=True)):
            time = at("2030-01-02 00:00") + dt.timedelta(seconds=number)
            inputs = {"distance": row["distance"], "carrier": row["carrier"], "input_time": time}
            found.append(prediction(f"r{number:06}", time, row["output"], **{"bundle": self.first, **inputs, **other}))
        return found

    def labels(self, count: int = ROWS, received: str = "2030-01-03 10:00") -> list[dict[str, Any]]:
        rows = toy_rows(ROWS, seed=7).head(count)
        return [label(f"r{number:06}", at(received), value) for number, value in enumerate(rows["label"])]

    def written(self) -> list[str]:
        return list(self.store.keys("evidence/m"))


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


def one(found: evidences.DayEvidence) -> DaySummary:
    assert len(found.summaries) == 1
    return found.summaries[0]


def test_a_day_is_summed_up_with_its_inputs_features_outputs_truth_slices_and_kpi(yard: Yard) -> None:
    write_predictions(yard.store, "m", yard.rows())
    write_labels(yard.store, "m", yard.labels(200))
    found = yard.evidence(slices=["carrier"], kpi="toy:kpi").day(DAY, yard.first, LATER)
    summary, rows = one(found), toy_rows(ROWS, seed=7)
    known = rows.head(200)
    assert found.troubles == {}
    assert (summary.rows, summary.requests, summary.labelled, summary.outcomes) == (ROWS, ROWS, 200, {"ok": ROWS})
    assert (summary.bundle, summary.arm, summary.day) == (yard.first, "champion", DAY)
    assert set(summary.inputs) == {"distance", "carrier"}
    assert set(summary.features) == {"distance", "carrier", "far"}
    assert [sketch["total"] for sketch in (*summary.features.values(), *summary.outputs)] == [ROWS] * 4
    assert summary.scores is not None
    assert scores_of(summary.scores).rows == 200
    assert set(summary.slices["carrier"]) == {"bike", "van"}
    assert summary.kpi == pytest.approx(mean(known["label"] - known["output"]))
    assert summary.expected == pytest.approx(mean(known["output"]))
    assert summary.newest_label == "2030-01-03T10:00:00+00:00"


def test_an_object_store_gives_the_same_evidence_as_a_folder(tmp_path: Path) -> None:
    found = []
    for yard in (Yard(tmp_path / "folder"), Yard(tmp_path / "memory", Store(MemoryStore(), "memory:///"))):
        write_predictions(yard.store, "m", yard.rows(30))
        write_labels(yard.store, "m", yard.labels(30))
        made = yard.evidence().day(DAY, yard.first, LATER)
        found.append((made.summaries, made.facts, yard.evidence().first_day()))
        assert yard.evidence().day(DAY, yard.first, LATER) == made
    assert found[0] == found[1]


def test_a_day_served_by_an_older_champion_is_measured_in_the_bins_of_the_present_one(yard: Yard) -> None:
    write_predictions(yard.store, "m", yard.rows())
    gathered = yard.evidence()
    old, new = (one(gathered.day(DAY, bundle, LATER)) for bundle in (yard.first, yard.second))
    assert old.bundle == new.bundle == yard.first
    assert old.inputs["distance"]["edges"] != new.inputs["distance"]["edges"]
    reference = gathered.yardstick(yard.second).reference
    assert new.inputs["distance"]["edges"] == list(reference.inputs["distance"].edges)
    assert len(yard.written()) == 2


def test_each_arm_and_bundle_has_a_summary_and_what_failed_is_counted_not_scored(yard: Yard) -> None:
    write_predictions(yard.store, "m", yard.rows(20))
    write_predictions(yard.store, "m", yard.rows(20, arm="shadow", bundle=yard.second))
    dropped = [row | {"outputs": [], "outcome": "dropped"} for row in yard.rows(8, arm="shadow", bundle=yard.second)]
    late = [row | {"time": row["time"] + dt.timedelta(hours=1)} for row in dropped]
    write_predictions(yard.store, "m", late)
    write_labels(yard.store, "m", yard.labels(20))
    write_labels(yard.store, "m", [label("r000001", at("2030-01-03 09:00"), 7)])
    champion, shadow = yard.evidence().day(DAY, yard.first, LATER).summaries
    assert (champion.arm, champion.bundle, champion.rows, champion.labelled) == ("champion", yard.first, 20, 20)
    assert (shadow.arm, shadow.bundle, shadow.rows, shadow.labelled) == ("shadow", yard.second, 12, 12)
    assert shadow.outcomes == {"dropped": 8, "ok": 12}
    assert (champion.wrong_labels, shadow.wrong_labels) == (1, 0)


def test_a_day_without_a_prediction_has_a_summary_without_rows(yard: Yard) -> None:
    summary = one(yard.evidence(slices=["carrier"], kpi="toy:kpi").day(DAY, yard.first, LATER))
    assert (summary.rows, summary.labelled, summary.arm, summary.bundle) == (0, 0, "champion", yard.first)


def test_rows_that_repeat_others_in_every_input_are_duplicates(yard: Yard) -> None:
    rows = yard.rows(10)
    copies = [rows[0] | {"request_id": f"copy{number}"} for number in range(4)]
    write_predictions(yard.store, "m", rows + copies)
    assert one(yard.evidence().day(DAY, yard.first, LATER)).duplicates == 4


CODE_TROUBLES: dict[str, tuple[str, dict[str, Any], str]] = {
    "features": ("broken", {}, "RuntimeError: no such feature"),
    "kpi": ("build", {"kpi": "toy:odd_kpi"}, "ColumnNotFoundError"),
}


@pytest.mark.parametrize("name", CODE_TROUBLES)
def test_code_that_fails_costs_its_own_part_of_the_evidence_and_nothing_else(yard: Yard, name: str) -> None:
    features, spec, told = CODE_TROUBLES[name]
    bundle = toy_bundle(yard.store, yard.folder, features=features)
    write_predictions(yard.store, "m", yard.rows())
    write_labels(yard.store, "m", yard.labels())
    found = yard.evidence(**spec).day(DAY, bundle, LATER)
    assert found.troubles.keys() == {name}
    assert told in found.troubles[name]
    assert one(found).labelled == ROWS
    assert bool(one(found).features) == (name != "features")


def test_what_was_made_is_found_again_by_another_process_and_not_made_twice(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_predictions(yard.store, "m", yard.rows())
    write_labels(yard.store, "m", yard.labels())
    made = yard.evidence().day(DAY, yard.first, LATER)
    written = yard.written()
    monkeypatch.setattr(evidences, "Summing", None)
    assert yard.evidence().day(DAY, yard.first, LATER) == made
    assert yard.written() == written


def test_labels_about_other_days_make_no_new_evidence(yard: Yard) -> None:
    write_predictions(yard.store, "m", yard.rows(5))
    write_labels(yard.store, "m", yard.labels(5))
    yard.evidence().day(DAY, yard.first, LATER)
    write_labels(yard.store, "m", [label("another", at("2030-01-05 10:00"), 1)])
    yard.evidence().day(DAY, yard.first, LATER)
    assert len(yard.written()) == 1
    write_labels(
        yard.store, "m", [label("r000003", at("2030-01-05 10:00"), 1), label("r000004", at("2030-01-05 10:00"), 0)]
    )
    yard.evidence().day(DAY, yard.first, LATER)
    assert len(yard.written()) == 2


def test_evidence_that_a_loss_of_power_cut_off_is_made_again(yard: Yard) -> None:
    write_predictions(yard.store, "m", yard.rows(5))
    made = yard.evidence().day(DAY, yard.first, LATER)
    (key,) = yard.written()
    yard.store.write(key, yard.store.read(key)[:100])
    assert yard.evidence().day(DAY, yard.first, LATER) == made
    assert json.loads(yard.store.read(key))["kind"] == "day-evidence"


def test_evidence_made_later_is_never_told_earlier(yard: Yard) -> None:
    """The no-look-ahead test: one process and another, with everything in the store, asked about the past."""
    write_predictions(yard.store, "m", yard.rows(20))
    write_labels(yard.store, "m", yard.labels(10, "2030-01-03 10:00"))
    write_labels(yard.store, "m", yard.labels(20, "2030-01-04 10:00"))
    moments = {
        "2030-01-02 00:00": (1, 0),
        "2030-01-03 00:00": (20, 0),
        "2030-01-03 12:00": (20, 10),
        "2030-01-05 00:00": (20, 20),
    }
    asked = yard.evidence()
    for order in (reversed(moments), moments, reversed(moments)):
        for moment in order:
            for gathered in (asked, yard.evidence()):
                summary = one(gathered.day(DAY, yard.first, at(moment)))
                assert (summary.rows, summary.labelled) == moments[moment], moment
                assert summary.newest_label is None or summary.newest_label <= at(moment).isoformat()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), cuts=st.integers(1, 6))
def test_shuffled_duplicated_and_reordered_files_and_labels_give_the_same_summaries(
    tmp_path_factory: pytest.TempPathFactory, seed: int, cuts: int
) -> None:
    draw, seen = random.Random(seed), []
    for number in range(2):
        yard = Yard(tmp_path_factory.mktemp("order"))
        rows = yard.rows(60) + yard.rows(30, arm="shadow", bundle=yard.second)
        labels = yard.labels(50, "2030-01-03 10:00") + yard.labels(25, "2030-01-04 11:00")
        if number:
            rows += draw.sample(rows, 15)
            labels += draw.sample(labels, 15)
            draw.shuffle(rows)
            draw.shuffle(labels)
        for start in range(cuts if number else 1):
            write_predictions(yard.store, "m", rows[start :: cuts if number else 1])
            write_labels(yard.store, "m", labels[start :: cuts if number else 1])
        found = yard.evidence(slices=["carrier"], kpi="toy:kpi").day(DAY, yard.first, LATER)
        seen.append([summary.model_dump() for summary in found.summaries])
    assert seen[0] == seen[1]


def test_many_batches_add_up_to_what_one_says(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    for start in range(0, ROWS, 60):
        write_predictions(yard.store, "m", yard.rows()[start : start + 60])
    write_labels(yard.store, "m", yard.labels())
    whole = one(yard.evidence(slices=["carrier"]).day(DAY, yard.first, LATER)).model_dump()
    monkeypatch.setattr(join, "BATCH_ROWS", 7)
    for key in yard.written():
        yard.store.delete(key)
    parts = one(yard.evidence(slices=["carrier"]).day(DAY, yard.first, LATER)).model_dump()
    assert pl.Series([json.dumps(rounded(whole), default=str)]).equals(
        pl.Series([json.dumps(rounded(parts), default=str)])
    )


def test_the_projects_function_is_handed_a_fixed_sample_of_many_rows(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summing, "KPI_ROWS", 100)
    write_predictions(yard.store, "m", yard.rows())
    write_labels(yard.store, "m", yard.labels())
    values = set()
    for _ in range(2):
        values.add(one(yard.evidence(kpi="toy:kpi").day(DAY, yard.first, LATER)).kpi)
        for key in yard.written():
            yard.store.delete(key)
    rows = toy_rows(ROWS, seed=7)
    assert len(values) == 1
    assert values != {mean(rows["label"] - rows["output"])}


def mean(values: pl.Series) -> float:
    return float(values.to_numpy().mean())


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def test_the_whole_log_is_listed_once_for_its_first_day(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    keys = Store.keys
    monkeypatch.setattr(Store, "keys", lambda store, prefix: listed.append(prefix) or keys(store, prefix))
    found = yard.evidence()
    assert found.first_day() is None
    write_predictions(yard.store, "m", yard.rows(3))
    assert [found.first_day(), found.first_day()] == [DAY, DAY]
    assert listed == ["predictions/m"] * 2
