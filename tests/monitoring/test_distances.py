"""Distances are those of the books and of scipy; what sampling brings is taken off them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from stackyard.monitoring import distances
from stackyard.monitoring.distances import Distance, PValue

COUNTS = st.lists(st.integers(0, 2000), min_size=6, max_size=6)


def smoothed(one: np.ndarray, two: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    there = (one + two) > 0
    return tuple((side[there] + 0.5) / (side[there] + 0.5).sum() for side in (one, two))  # type: ignore[return-value]


@settings(max_examples=200, deadline=None)
@given(COUNTS, COUNTS)
def test_divergences_are_scipys(one, two) -> None:
    live, known = np.array(one), np.array(two)
    p, q = smoothed(live, known)
    if not len(p):
        assert distances.psi(live, known) == 0
        return
    assert distances.kl(live, known) == pytest.approx(stats.entropy(p, q), abs=1e-12)
    assert distances.js(live, known) == pytest.approx(jensenshannon(p, q) ** 2, abs=1e-12)
    assert distances.psi(live, known) == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p), abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(30, 2000), min_size=5, max_size=5), st.lists(st.integers(30, 2000), min_size=5, max_size=5))
def test_chi_square_is_scipys(one, two) -> None:
    found, p = distances.chi_square(np.array(one), np.array(two))
    expected = stats.chi2_contingency(np.array([one, two]), correction=False)
    assert (float(found), float(p)) == pytest.approx(tuple(expected)[:2])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=2, max_size=40), st.lists(st.integers(0, 8), min_size=2, max_size=40))
def test_ks_of_values_with_a_bin_each_is_scipys(one, two) -> None:
    binned = [np.bincount(values, minlength=9) for values in (one, two)]
    statistic, _ = stats.ks_2samp(one, two, method="asymp")
    assert distances.ks(*binned) == pytest.approx(statistic)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_false_discoveries_are_scipys(p_values) -> None:
    expected = stats.false_discovery_control(p_values, method="bh")
    assert distances.false_discoveries(np.array(p_values)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("live", "known"),
    [
        pytest.param([0, 0], [5, 5], id="no-live-rows"),
        pytest.param([5, 5], [0, 0], id="no-reference"),
        pytest.param([9, 0], [90, 0], id="one-bin"),
        pytest.param([1, 0, 0], [0, 0, 90_000], id="nothing-in-common"),
    ],
)
def test_what_cannot_be_compared_gives_numbers_and_no_alarm_from_few_rows(live, known) -> None:
    for metric in ("psi", "kl", "js"):
        found = distances.effect(metric, np.array(live), np.array(known))
        assert np.isfinite([found.raw, found.value, found.low]).all()
        assert found.low <= found.value
    assert 0 <= distances.chi_square(np.array(live), np.array(known))[1] <= 1
    assert 0 <= distances.ks(np.array(live), np.array(known)) <= 1


@pytest.mark.parametrize("metric", ["psi", "kl", "js"])
@pytest.mark.parametrize("rows", [200, 1_000, 20_000], ids=["few", "some", "many"])
def test_what_sampling_brings_is_taken_off(metric, rows) -> None:
    rng = np.random.default_rng(rows)
    even = np.full(10, 0.1)
    known, live = rng.multinomial(50_000, even), rng.multinomial(rows, even, size=4_000)
    found = distances.effect(metric, live, known)
    scale = {"psi": 1.0, "kl": 0.5, "js": 0.125}[metric]
    noise = 9 * scale * (1 / rows + 1 / 50_000)
    assert found.raw.mean() == pytest.approx(noise, rel=0.08)
    assert (found.low > 0).mean() < 0.15


@pytest.mark.parametrize("shift", [0.2, 0.5, 1.0], ids=["small", "middling", "large"])
@pytest.mark.parametrize("metric", ["psi", "kl", "js"])
def test_the_lower_bound_lies_below_the_truth_as_often_as_it_says(metric, shift) -> None:
    rng = np.random.default_rng(7)
    edges = stats.norm.ppf(np.arange(1, 10) / 10)
    p = np.diff(np.concatenate([[0], stats.norm.cdf(edges - shift), [1]]))
    q = np.full(10, 0.1)
    middle = (p + q) / 2
    truth = {
        "psi": stats.entropy(p, q) + stats.entropy(q, p),
        "kl": stats.entropy(p, q),
        "js": (stats.entropy(p, middle) + stats.entropy(q, middle)) / 2,
    }[metric]
    live, known = rng.multinomial(1_000, p, size=4_000), rng.multinomial(5_000, q, size=4_000)
    found = distances.effect(metric, live, known)
    assert found.value.mean() == pytest.approx(truth, rel=0.06)
    assert 0.02 < (found.low > truth).mean() < 0.13


def test_a_number_knows_its_direction() -> None:
    assert Distance(0.31).exceeds(0.2) and not Distance(0.2).exceeds(0.2)
    assert PValue(0.01).rejects(0.05) and not PValue(0.5).rejects(0.05)
