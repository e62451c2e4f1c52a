"""Drift is told when it is large enough, sure enough and lasts; too few rows are said to be too few."""

import datetime as dt
import json

import numpy as np
import polars as pl
import pytest

from stackyard.data import sketches
from stackyard.monitoring.drift import Window, judge_drift
from stackyard.spec.loop import DriftSpec

FIRST = dt.date(2026, 1, 1)
RNG = np.random.default_rng(5)
KNOWN = {
    "speed": sketches.fit(pl.Series(RNG.normal(size=20_000))),
    "word": sketches.fit(pl.Series(RNG.choice(["a", "b", "c"], 20_000))),
}


def window(place: int, shift: float = 0.0, rows: int = 1_000, unseen: float = 0.0) -> Window:
    rng = np.random.default_rng(place)
    words = np.where(rng.random(rows) < unseen, "zebra", rng.choice(["a", "b", "c"], rows))
    live = {"speed": pl.Series(rng.normal(shift, 1, rows)), "word": pl.Series(words)}
    found = {name: KNOWN[name].empty().add(values) for name, values in live.items()}
    return Window(FIRST + dt.timedelta(days=7 * place), FIRST + dt.timedelta(days=7 * place + 7), found)


@pytest.mark.parametrize(
    ("shifts", "state", "since"),
    [
        pytest.param([0, 0, 0], "ok", None, id="nothing-moves"),
        pytest.param([0, 0, 1], "ok", None, id="once-is-not-enough"),
        pytest.param([0, 1, 1], "alarm", 1, id="twice-in-a-row"),
        pytest.param([1, 0, 1], "alarm", 0, id="twice-of-three"),
        pytest.param([1, 1, 0, 0, 0], "ok", None, id="long-ago"),
        pytest.param([0, 0.1, 0.1], "ok", None, id="too-small-to-matter"),
        pytest.param([1], "not_enough_data", None, id="one-window"),
    ],
)
def test_k_of_n_windows_must_show_it(shifts: list[float], state: str, since: int | None) -> None:
    found = judge_drift([window(place, shift) for place, shift in enumerate(shifts)], KNOWN, DriftSpec())
    assert found.state == state
    assert found.since == (None if since is None else FIRST + dt.timedelta(days=7 * since))
    assert json.loads(json.dumps(found.plain(), allow_nan=False))["state"] == state
    if state == "alarm":
        assert "speed" in found.reason and found.alarmed == ("speed",)


def test_windows_with_few_rows_are_not_judged() -> None:
    windows = [window(0, 1), window(1, 1, rows=499), window(2, 1, rows=30)]
    found = judge_drift(windows, KNOWN, DriftSpec())
    assert (found.state, found.since) == ("not_enough_data", None)
    assert "500" in found.reason


def test_what_is_ignored_may_move() -> None:
    windows = [window(place, 2) for place in range(3)]
    assert judge_drift(windows, KNOWN, DriftSpec(ignore=("speed",))).state == "ok"
    assert judge_drift(windows, {}, DriftSpec()).state == "not_enough_data"


def test_a_word_that_training_never_saw_is_drift() -> None:
    found = judge_drift([window(place, unseen=0.1) for place in range(3)], KNOWN, DriftSpec())
    assert found.alarmed == ("word",)
    assert "unseen from 0% to" in found.reason


def test_sketches_in_other_bins_are_refused() -> None:
    other = {"speed": sketches.fit(pl.Series(RNG.normal(size=5_000)))}
    with pytest.raises(ValueError, match="other bins"):
        judge_drift([window(place) for place in range(3)], other, DriftSpec())


@pytest.mark.parametrize("metric", ["psi", "js", "kl"])
def test_every_metric_finds_a_large_shift(metric) -> None:
    found = judge_drift([window(place, 1) for place in range(3)], KNOWN, DriftSpec(metric=metric, threshold=0.05))
    assert found.alarmed == ("speed",)
