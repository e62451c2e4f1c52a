"""Sketches count every row exactly once, in bins that stay, and add up in any order."""

import datetime as dt
import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackyard.data import sketches
from stackyard.data.sketches import Sketch

NUMBERS = st.lists(st.one_of(st.none(), st.floats(width=32), st.integers(-5, 5).map(float)), max_size=60)
WORDS = st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "c", "zebra", ""])), max_size=60)


def numbers(values: list[float | None]) -> pl.Series:
    return pl.Series("x", values, dtype=pl.Float64)


def words(values: list[str | None]) -> pl.Series:
    return pl.Series("x", values, dtype=pl.String)


@settings(max_examples=150, deadline=None)
@given(NUMBERS, NUMBERS, NUMBERS)
def test_parts_of_numbers_add_up_to_the_whole(trained, one, two) -> None:
    same(sketches.fit(numbers(trained)), numbers(one), numbers(two))


@settings(max_examples=150, deadline=None)
@given(WORDS, WORDS, WORDS)
def test_parts_of_words_add_up_to_the_whole(trained, one, two) -> None:
    same(sketches.fit(words(trained)), words(one), words(two))


def same(trained: Sketch, one: pl.Series, two: pl.Series) -> None:
    bins = trained.empty()
    whole, parts, turned = bins.add(pl.concat([one, two])), bins.add(one) + bins.add(two), bins.add(two).add(one)
    assert whole.table.tolist() == parts.table.tolist() == turned.table.tolist()
    assert whole.total == len(one) + len(two) == int(whole.table.sum())
    assert trained.total == int(trained.table.sum())
    assert trained.unseen == 0 or trained.kind == "number"
    for sketch in (trained, whole, bins):
        read = Sketch.load(json.loads(json.dumps(sketch.plain(), allow_nan=False)))
        assert read.plain() == sketch.plain() and read.fits(trained)
    assert len(whole.labels) == len(whole.table)
    if whole.mean is not None and abs(whole.mean) < 1e30:
        assert parts.mean == pytest.approx(whole.mean, rel=1e-6, abs=1e-6)
        assert (parts.minimum, parts.maximum) == (whole.minimum, whole.maximum)


@pytest.mark.parametrize(
    ("trained", "edges", "counts"),
    [
        pytest.param(list(range(1000)), 9, [100] * 10, id="deciles"),
        pytest.param([0.0] * 93 + [1, 2, 3, 4, 5, 6, 7], 1, [93, 7], id="mostly-zero"),
        pytest.param([10.0] * 80 + [2.0] * 20, 1, [20, 80], id="mostly-greatest"),
        pytest.param([True] * 70 + [False] * 30, 1, [30, 70], id="truth-values"),
        pytest.param([1, 2, 3] * 50, 2, [50, 50, 50], id="three-values"),
        pytest.param([4.0] * 10, 2, [0, 10, 0], id="constant"),
        pytest.param([None, None], 0, [0], id="nothing"),
    ],
)
def test_bins_follow_the_deciles_and_part_the_values_that_are_many(trained, edges, counts) -> None:
    found = sketches.fit(pl.Series("x", trained))
    assert (len(found.edges), found.counts.tolist()) == (edges, counts)


@pytest.mark.parametrize(
    ("live", "table"),
    [
        pytest.param(pl.Series([1.0, 3.0, None, float("nan")]), [1, 1, 0, 2], id="numbers"),
        pytest.param(pl.Series([float("inf"), float("-inf")]), [0, 0, 2, 0], id="infinite"),
        pytest.param(pl.Series(["1", "many", None]), [1, 0, 1, 1], id="text-for-numbers"),
        pytest.param(pl.Series([None, None]), [0, 0, 0, 2], id="no-type"),
        pytest.param(pl.Series([1, 3]), [1, 1, 0, 0], id="whole-numbers"),
        pytest.param(pl.Series([True, False]), [2, 0, 0, 0], id="truth-values"),
        pytest.param(pl.Series([dt.datetime(2026, 1, 1, tzinfo=dt.UTC), None]), [0, 0, 1, 1], id="times"),
    ],
)
def test_whatever_comes_has_a_bin(live: pl.Series, table: list[int]) -> None:
    bins = sketches.fit(pl.Series([1, 3] * 20)).empty()
    assert bins.add(live).table.tolist() == table


def test_unseen_words_are_told_apart_from_missing_ones() -> None:
    bins = sketches.fit(words(["a", "b", None])).empty()
    assert bins.add(words(["b", "c", None, "c"])).table.tolist() == [0, 1, 2, 1]
    assert bins.add(pl.Series([1, 2])).unseen == 2


def test_many_words_share_the_bin_of_the_rest() -> None:
    trained = sketches.fit(words([f"w{place % 300}" for place in range(100_000)]))
    assert (len(trained.names), len(trained.counts), trained.labels[200]) == (200, 201, "other")
    assert list(trained.names) == sorted(trained.names)
    assert trained.empty().add(words(["never seen"])).counts[-1] == 1


def test_sketches_of_other_bins_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="different bins"):
        _ = sketches.fit(numbers([1, 2, 3])) + sketches.fit(numbers([1, 2, 4]))


@pytest.mark.parametrize(
    "change",
    [{"type": "x"}, {"counts": [1]}, {"missing": 5}, {"edges": None}, {"counts": [-1, 3, 1]}],
    ids=["kind", "bins", "total", "edges", "negative"],
)
def test_what_is_no_sketch_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no sketch"):
        Sketch.load(sketches.fit(pl.Series([1, 2, 3])).plain() | change)


def test_times_have_no_sketch_and_a_lost_column_is_missing() -> None:
    frame = pl.DataFrame({"at": [dt.datetime(2026, 1, 1, tzinfo=dt.UTC)] * 3, "n": [1, 2, 3], "w": ["a", "b", "c"]})
    bins = sketches.fit_frame(frame)
    assert list(bins) == ["n", "w"]
    found = sketches.add_frame(bins, frame.drop("w"))
    assert (found["w"].missing, found["n"].present) == (3, 3)


def test_a_million_rows_of_fourteen_columns_are_summed_up_in_seconds() -> None:
    """What judging a day of a million predictions costs."""
    import time

    rng = np.random.default_rng(0)
    columns = {f"n{place}": rng.normal(size=1_000_000) for place in range(11)}
    columns |= {f"w{place}": pl.Series(["a", "b", "c", "d"] * 250_000) for place in range(3)}
    frame = pl.DataFrame(columns)
    bins = sketches.fit_frame(frame.head(10_000))
    began = time.process_time()
    found = sketches.add_frame(bins, frame)
    assert time.process_time() - began < 10
    assert all(sketch.total == 1_000_000 for sketch in found.values())
