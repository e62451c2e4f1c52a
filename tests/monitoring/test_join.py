"""Predictions meet their labels once each, however late, double or odd either was."""

import datetime as dt
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logbook import at, label, prediction, write_labels, write_predictions
from stackyard.monitoring import join
from stackyard.monitoring.join import Counts, Joined
from stackyard.monitoring.logs import Files
from stackyard.spec.models import ColumnSpec, TaskSpec
from stackyard.store import layout
from stackyard.store.objects import Store

BINARY = TaskSpec(type="binary", label="late")
COLUMNS = {"distance": ColumnSpec(type="float", known="before"), "row": ColumnSpec(type="integer", known="before")}
DAY = dt.date(2030, 1, 2)
MORNING, LATER = at("2030-01-02 08:00"), at("2030-01-20 00:00")
DELAY = 86_400.0


def joined(store: Store, now: dt.datetime = LATER, task: TaskSpec = BINARY) -> tuple[Joined, pl.DataFrame]:
    files = Files(store, "m")
    found = join.join(files, join.listing(files, DAY, DELAY, now), task, DELAY, now)
    parts = list(join.batches(files, found, COLUMNS))
    return found, pl.concat(parts) if parts else pl.DataFrame()


def row(request_id: str, **other: Any) -> dict[str, Any]:
    return prediction(request_id, **{"time": MORNING, "distance": 1.0, "input_row": 7, **other})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


LABELS: dict[str, tuple[list[dict[str, Any]], float | None, Counts]] = {
    "none": ([], None, Counts()),
    "in-time": ([label("a", at("2030-01-03 07:00"), 1)], 1.0, Counts()),
    "late": ([label("a", at("2030-01-07 07:00"), 1)], 1.0, Counts(late=1)),
    "a-day-too-late-to-count": ([label("a", at("2030-01-11 07:00"), 1)], None, Counts()),
    "said-twice": (
        [label("a", at("2030-01-03 07:00"), 1), label("a", at("2030-01-03 07:01"), 1)],
        1.0,
        Counts(repeated=1),
    ),
    "corrected": (
        [label("a", at("2030-01-03 07:05"), 0), label("a", at("2030-01-03 07:00"), 1)],
        0.0,
        Counts(conflicts=1),
    ),
    "corrected-days-later": (
        [label("a", at("2030-01-03 07:05"), 0), label("a", at("2030-01-05 07:00"), 1)],
        1.0,
        Counts(conflicts=1, late=1),
    ),
    "no-class": ([label("a", at("2030-01-03 07:00"), 0.5)], None, Counts(wrong=1)),
    "not-finite": ([label("a", at("2030-01-03 07:00"), float("nan"))], None, Counts(wrong=1)),
    "nonsense-after-truth": (
        [label("a", at("2030-01-03 07:00"), 1), label("a", at("2030-01-03 08:00"), 9)],
        1.0,
        Counts(wrong=1),
    ),
    "of-another-row": ([label("a", at("2030-01-03 07:00"), 1, row=1)], None, Counts()),
    "of-nobody-on-the-day": ([label("stranger", at("2030-01-02 09:00"), 1)], None, Counts(unknown=1)),
    "of-nobody-on-the-next-day": ([label("stranger", at("2030-01-03 09:00"), 1)], None, Counts()),
}


@pytest.mark.parametrize("name", LABELS)
def test_the_newest_label_that_the_task_can_mean_stands_and_the_rest_is_counted(store: Store, name: str) -> None:
    labels, expected, counts = LABELS[name]
    write_predictions(store, "m", [row("a")])
    for one in labels:
        write_labels(store, "m", [one])
    found, rows = joined(store)
    assert rows["label"].to_list() == [expected]
    assert found.counts == counts


def test_a_label_of_an_earlier_days_prediction_is_not_unknown(store: Store) -> None:
    write_predictions(store, "m", [row("a"), prediction("b", at("2030-01-01 08:00"), distance=1.0, input_row=7)])
    write_labels(store, "m", [label("b", at("2030-01-02 09:00"), 1)])
    assert joined(store)[0].counts == Counts()


TASKS = {
    "class-index": (TaskSpec(type="multiclass", label="l", classes=("x", "y", "z")), 2.0, 2.0),
    "no-such-class": (TaskSpec(type="multiclass", label="l", classes=("x", "y", "z")), 3.0, None),
    "any-finite-number": (TaskSpec(type="regression", label="l"), -17.25, -17.25),
    "infinity": (TaskSpec(type="regression", label="l"), float("inf"), None),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_label_is_what_the_task_can_mean(store: Store, name: str) -> None:
    task, value, expected = TASKS[name]
    write_predictions(store, "m", [row("a")])
    write_labels(store, "m", [label("a", at("2030-01-03 07:00"), value)])
    found, rows = joined(store, task=task)
    assert rows["label"].to_list() == [expected]
    assert found.counts.wrong == (expected is None)


def test_the_newest_answer_to_a_request_that_was_asked_twice_stands_in_each_arm(store: Store) -> None:
    second = at("2030-01-02 08:01")
    write_predictions(store, "m", [row("a", output=0.1), row("a", output=0.3, arm="shadow")])
    write_predictions(store, "m", [row("a", output=0.2, time=second), row("a", output=0.2, time=second)])
    found, rows = joined(store)
    assert rows.select("arm", pl.col("outputs").list.first()).rows() == [("champion", 0.2), ("shadow", 0.3)]
    assert found.counts.duplicates == 2


def test_files_of_older_code_and_inputs_of_other_types_are_read(store: Store) -> None:
    old = {name: value for name, value in row("a").items() if name not in ("release", "arm", "outcome", "seconds")}
    write_predictions(store, "m", [old])
    write_predictions(store, "m", [row("b", distance="12.5"), row("c", distance="far")])
    _, rows = joined(store)
    assert rows.select("request_id", "release", "arm", "outcome", "seconds").row(0) == ("a", 0, "champion", "ok", None)
    assert rows["input:distance"].to_list() == [1.0, 12.5, None]
    assert rows["input:row"].to_list() == [7, 7, 7]


def test_a_file_that_cannot_be_read_is_told_and_the_others_count(store: Store) -> None:
    write_predictions(store, "m", [row("a")])
    store.create(layout.predictions("m", DAY.isoformat(), "torn.parquet"), b"PAR1 and then nothing")
    store.create(layout.labels("m", DAY.isoformat(), "torn.parquet"), b"")
    files = Files(store, "m")
    found = join.join(files, join.listing(files, DAY, DELAY, LATER), BINARY, DELAY, LATER)
    assert found.keep.height == 1
    assert sorted(files.unreadable) == [
        "labels/m/2030-01-02/torn.parquet",
        "predictions/m/2030-01-02/torn.parquet",
    ]


def test_labels_as_text_in_a_file_are_wrong_not_fatal(store: Store) -> None:
    write_predictions(store, "m", [row("a"), row("b")])
    text = [{**label("a", at("2030-01-03 07:00"), 0), "label": "late"}]
    write_labels(store, "m", text, label=pl.String)
    write_labels(store, "m", [{**label("b", at("2030-01-03 07:00"), 0), "label": "1"}], label=pl.String)
    found, rows = joined(store)
    assert rows["label"].to_list() == [None, 1.0]
    assert found.counts.wrong == 1


def test_nothing_that_comes_after_now_exists(store: Store) -> None:
    now = at("2030-01-03 12:00")
    write_predictions(store, "m", [row("a"), row("b"), row("c", time=at("2030-01-02 23:00"))])
    write_labels(store, "m", [label("a", now, 1), label("b", now + dt.timedelta(microseconds=1), 1)])
    write_labels(store, "m", [label("a", at("2030-01-04 09:00"), 0)])
    found, rows = joined(store, now)
    assert rows["label"].to_list() == [1.0, None, None]
    assert found.cut
    assert found.newest == now
    assert joined(store, at("2030-01-02 12:00"))[1]["request_id"].to_list() == ["a", "b"]


def test_batches_are_bounded_and_hold_every_row_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "BATCH_ROWS", 7)
    for start in range(0, 60, 20):
        write_predictions(store, "m", [row(f"r{number}") for number in range(start, start + 25)])
    files = Files(store, "m", held_bytes=1)
    found = join.join(files, join.listing(files, DAY, DELAY, LATER), BINARY, DELAY, LATER)
    parts = list(join.batches(files, found, COLUMNS))
    assert max(part.height for part in parts) <= 7
    assert sorted(pl.concat(parts)["request_id"].to_list()) == sorted(f"r{number}" for number in range(65))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), cuts=st.integers(1, 5))
def test_any_order_and_any_repetition_of_files_and_labels_gives_the_same_join(
    tmp_path_factory: pytest.TempPathFactory, seed: int, cuts: int
) -> None:
    draw = random.Random(seed)
    rows = [
        row(f"r{draw.randrange(12)}", output=draw.random(), arm=draw.choice(["champion", "shadow"])) for _ in range(30)
    ]
    labels = [
        label(
            f"r{draw.randrange(14)}",
            at(f"2030-01-0{draw.randrange(2, 8)} 1{draw.randrange(4)}:00"),
            draw.choice([0, 1, 1, 5]),
        )
        for _ in range(25)
    ]
    seen = []
    for _ in range(2):
        store = Store.open(tmp_path_factory.mktemp("order"))
        draw.shuffle(rows)
        draw.shuffle(labels)
        for start in range(cuts):
            write_predictions(store, "m", rows[start::cuts])
            write_labels(store, "m", labels[start::cuts])
        found, frame = joined(store)
        seen.append((found.counts, frame))
    assert seen[0][0] == seen[1][0]
    assert seen[0][1].equals(seen[1][1])
