"""Where rows are cut, and what a run counts for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackyard.spec.models import SplitSpec, TrainingSpec
from stackyard.store import layout
from stackyard.store.documents import canonical
from stackyard.store.objects import Store
from stackyard.training.recipe import RecipeError, held_out
from stackyard.training.spending import Spending, hours

SPLIT = SplitSpec()


@given(st.lists(st.integers(0, 400), min_size=1, max_size=300), st.integers(0, 400), st.sampled_from([None, 10]))
def test_rows_are_held_out_by_time_alone(minutes: list[int], at: int, patience: int | None) -> None:
    times = np.sort(np.datetime64("2030-01-01", "us") + np.array(minutes) * np.timedelta64(60, "s"))
    start = np.datetime64("2030-01-01", "us") + at * np.timedelta64(60, "s")
    try:
        begin, end = held_out(times, start, SPLIT, patience)
    except RecipeError:
        return
    assert 0 < begin <= end < len(times)
    assert times[end - 1] < start <= times[end]
    assert (begin < end) == (patience is not None)
    if patience is not None:
        assert times[begin - 1] < times[begin]


def test_a_try_that_was_killed_counts_until_its_last_word(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    assert Spending(store, "run").seconds() < 1
    store.write(layout.run("run", "try.json"), canonical({"began": 1000.0, "before": 50.0}))
    store.write(layout.run("run", "progress.json"), canonical({"time": 1090.0}))
    assert Spending(store, "run").seconds() == pytest.approx(140, abs=1)
    assert Spending(store, "run").seconds() > 140  # the third try: the second's seconds are not lost


def test_hours_are_those_of_every_thread() -> None:
    assert hours(TrainingSpec(workers=2, threads=3), 600) == {"cpu_hours": 1.0, "gpu_hours": 0.0}
