"""Summaries of disjoint rows add up to the summary of all rows, in any order."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from stackyard.data.reference import Reference
from stackyard.monitoring import scores
from stackyard.monitoring.days import DaySummary, summarize, total
from stackyard.spec.models import TaskSpec
from stackyard.training import reference

DAY = dt.date(2026, 3, 1)
TASKS = {
    "binary": TaskSpec(type="binary", label="y"),
    "multiclass": TaskSpec(type="multiclass", label="y", classes=("a", "b", "c")),
    "regression": TaskSpec(type="regression", label="y"),
}


def rows(task: TaskSpec, seed: int = 0, many: int = 400) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Answered rows with labels for three of four, and their features."""
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame({"x": rng.normal(size=many), "word": rng.choice(["a", "b", "c"], many)})
    if task.type == "multiclass":
        outputs = rng.dirichlet([1, 1, 1], many)
        truth = rng.integers(0, 3, many).astype(float)
    else:
        outputs = rng.random((many, 1))
        truth = (rng.random(many) < 0.5).astype(float)
    label = [float(value) if place % 4 else None for place, value in enumerate(truth)]
    known = frame.with_columns(pl.Series("outputs", outputs.tolist()), pl.Series("label", label, dtype=pl.Float64))
    return known, frame.select((pl.col("x") * 2).alias("twice"))


def bins(task: TaskSpec) -> Reference:
    frame, features = rows(task, seed=9)
    outputs = np.array(frame["outputs"].to_list())
    outputs = outputs if task.type == "multiclass" else outputs[:, 0]
    return Reference.load(
        reference.describe(frame.select("x", "word"), features, outputs, frame["label"].fill_null(0).to_numpy())
    )


def part(task: TaskSpec, cut: slice, day: dt.date = DAY) -> DaySummary:
    frame, features = rows(task)
    known = {
        "model": "m",
        "day": day,
        "bundle": "b",
        "arm": "champion",
        "requests": len(frame[cut]),
        "outcomes": {"ok": len(frame[cut])},
    }
    return summarize(bins(task), task, frame[cut], features[cut], ["word"], **known)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_parts_add_up_to_the_whole(task: TaskSpec) -> None:
    whole = part(task, slice(0, 400))
    found = total(part(task, cut) for cut in (slice(0, 7), slice(7, 7), slice(7, 250), slice(250, 400)))
    assert found is not None
    assert (found.rows, found.labelled, found.requests, found.outcomes) == (400, 300, 400, {"ok": 400})
    assert found.features["twice"]["counts"] == whole.features["twice"]["counts"]
    assert found.expected == pytest.approx(whole.expected)
    assert whole.scores is not None and found.scores is not None
    assert scores.load(found.scores).metrics() == pytest.approx(scores.load(whole.scores).metrics())
    assert {value: scores.load(plain).rows for value, plain in found.slices["word"].items()} == {
        value: scores.load(plain).rows for value, plain in whole.slices["word"].items()
    }


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_summary_reads_back_from_strict_json(task: TaskSpec) -> None:
    summary = part(task, slice(0, 400))
    assert DaySummary.model_validate_json(summary.model_dump_json()) == summary


def test_a_sum_over_days_begins_with_the_first_and_forgets_what_differs() -> None:
    task = TASKS["binary"]
    one, two = part(task, slice(0, 10), DAY + dt.timedelta(days=1)), part(task, slice(10, 30), DAY)
    assert (one + two).day == DAY
    assert (one + two.model_copy(update={"bundle": "c", "arm": "canary"})).bundle == ""


def test_a_day_without_labels_adds_nothing_to_figures() -> None:
    task = TASKS["binary"]
    labelled = part(task, slice(0, 100))
    bare = DaySummary(model="m", day=DAY, bundle="b", arm="champion", rows=5)
    assert (labelled + bare).scores == (bare + labelled).scores == labelled.scores
    assert (labelled + bare).expected == labelled.expected


def test_days_of_another_model_do_not_add_up() -> None:
    one = part(TASKS["binary"], slice(0, 10))
    with pytest.raises(ValueError, match="do not add up"):
        _ = one + one.model_copy(update={"model": "other"})


def test_a_day_of_many_rows_is_a_few_kilobytes() -> None:
    """What a year of days costs in the store."""
    assert len(part(TASKS["binary"], slice(0, 400)).model_dump_json()) < 40_000
