"""Tests that are looked at after every request still err no more often than they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from stackyard.monitoring import sequential as s

ALPHA = 0.05
RATES = st.floats(0.001, 0.9)
COUNTS = st.integers(0, 3_000)


@given(null=RATES, trials=st.integers(1, 150))
@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("test", [s.above, s.below], ids=["above", "below"])
def test_an_e_value_is_one_on_average_where_the_null_holds_exactly(test, null, trials):
    counts = np.arange(trials + 1)
    values = [test(int(count), trials, null).log + binom.logpmf(count, trials, null) for count in counts]
    assert np.logaddexp.reduce(values) == pytest.approx(0.0, abs=1e-6)


@given(null=RATES, share=st.floats(0.0, 1.0), trials=st.integers(1, 150))
@settings(max_examples=20, deadline=None)
def test_an_e_value_is_at_most_one_on_average_everywhere_in_the_null(null, share, trials):
    counts = np.arange(trials + 1)
    rate = null * share
    values = [s.above(int(count), trials, null).log + binom.logpmf(count, trials, rate) for count in counts]
    assert np.logaddexp.reduce(values) <= 1e-6


@given(failed=COUNTS, more=COUNTS, alpha=st.floats(0.0005, 0.2))
@settings(max_examples=30, deadline=None)
def test_a_confidence_sequence_holds_the_rate_that_was_seen(failed, more, alpha):
    trials = failed + more
    low, high = s.lower(failed, trials, alpha), s.upper(failed, trials, alpha)
    seen = failed / trials if trials else 0.5
    assert 0 <= low <= seen <= high <= 1


@pytest.mark.parametrize(
    ("failures", "share", "harmful"),
    [
        pytest.param((0, 5), 0.05, True, id="five-of-few"),
        pytest.param((95, 5), 0.05, False, id="as-the-champion"),
        pytest.param((100, 0), 0.05, False, id="better"),
        pytest.param((0, 20), 0.5, True, id="in-a-shadow"),
        pytest.param((20, 20), 0.5, False, id="in-both-arms"),
        pytest.param((0, 40), 1.0, False, id="nobody-to-compare-with"),
    ],
)
def test_failures_are_harm_when_the_challenger_has_more_than_its_share(failures, share, harmful):
    a, b = failures
    rates = s.TwoSampleRates(a, 10_000, b, 10_000, share)
    assert rates.harm().rejects(0.004) is harmful


@pytest.mark.parametrize(
    ("failed", "asked", "excluded"),
    [
        pytest.param(0, 46, False, id="one-day-of-the-flights"),
        pytest.param(0, 138, True, id="three-days"),
        pytest.param(1, 184, True, id="four-days-and-one-failure"),
        pytest.param(9, 184, False, id="as-bad-as-the-margin"),
    ],
)
def test_the_flights_exclude_five_points_of_errors_in_four_days(failed, asked, excluded):
    rates = s.TwoSampleRates(0, asked * 19, failed, asked, 0.05)
    assert rates.excludes(0.05, ALPHA) is excluded


@pytest.mark.parametrize("share", [0.05, 0.5], ids=["five-percent", "half"])
def test_harm_above_the_margin_is_seldom_excluded_at_any_look(share):
    """60 challengers exactly at the margin, looked at 20 times each."""
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(60):
        asked = np.cumsum(np.full(20, 100))
        own = np.cumsum(rng.binomial(100, 0.06, 20))
        others = (asked * (1 - share) / share).astype(int)
        theirs = np.cumsum(rng.binomial(np.diff(others, prepend=0), 0.01))
        wrong += any(
            s.TwoSampleRates(int(a), int(of_a), int(b), int(of_b), share).excludes(0.05, ALPHA)
            for a, of_a, b, of_b in zip(theirs, others, own, asked, strict=True)
        )
    assert wrong <= binom.ppf(0.999, 60, ALPHA)


@pytest.mark.parametrize(
    ("assigned", "wrong"),
    [
        pytest.param((950, 50), False, id="as-asked"),
        pytest.param((960, 40), False, id="a-little-off"),
        pytest.param((1_000, 0), True, id="nobody"),
        pytest.param((9_700, 300), True, id="two-points-lost"),
    ],
)
def test_a_share_that_is_not_the_one_asked_for_is_found(assigned, wrong):
    assert s.sample_ratio(assigned[0], assigned[1], 0.05).rejects(0.004) is wrong


def test_a_whole_share_with_a_request_for_the_champion_is_impossible():
    assert s.sample_ratio(1, 5, 1.0).log == math.inf


def test_a_mean_stays_within_its_sequence_at_all_looks():
    """150 series of 100 to 2,000 skewed values; asymptotic, so twice the promise is the test."""
    rng, wrong = np.random.default_rng(2), 0
    for _ in range(150):
        values = (rng.random(2_000) < 0.2).astype(float)
        count = np.arange(100, 2_001, 20)
        means = np.cumsum(values)[count - 1] / count
        errors = np.sqrt(means * (1 - means) / count)
        wrong += any(
            mean - s.mean_width(int(n), float(error), ALPHA) > 0.2
            for n, mean, error in zip(count, means, errors, strict=True)
        )
    assert wrong <= 2 * ALPHA * 150


@pytest.mark.parametrize("growth", [1.0, 2.0, 6.0], ids=["one-look", "twice-the-rows", "six-times"])
def test_a_boundary_is_crossed_as_often_as_it_promises(growth):
    rng = np.random.default_rng(3)
    rows = np.exp(np.arange(0, math.log(growth) + 1e-9, 0.05))
    steps = rng.standard_normal((20_000, len(rows))) * np.sqrt(np.diff(rows, prepend=0))
    highest = (np.cumsum(steps, axis=1) / np.sqrt(rows)).max(axis=1)
    assert (highest > s.boundary(growth, ALPHA)).mean() == pytest.approx(ALPHA, abs=0.006)


@given(growth=st.floats(1.0, 50.0), more=st.floats(0.0, 10.0))
@settings(max_examples=25, deadline=None)
def test_more_looks_ask_for_more(growth, more):
    assert s.boundary(growth + more, ALPHA) >= s.boundary(growth, ALPHA) - 1e-3


def test_nothing_seen_is_no_evidence():
    assert s.above(0, 0, 0.3).value == pytest.approx(1.0)
    assert s.sample_ratio(0, 0, 0.3).value == pytest.approx(1.0)
    assert (s.upper(0, 0, 0.1), s.lower(0, 0, 0.1), s.mean_width(0, 0.0, 0.1)) == (1.0, 0.0, math.inf)
