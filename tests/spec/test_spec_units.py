"""Durations, sizes and days: read from text once, refused without a unit."""

from __future__ import annotations

import contextlib
import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackyard.spec.units import day, duration_text, seconds, size, size_text

DURATIONS = {"500ms": 0.5, "10s": 10.0, "1.5s": 1.5, "5m": 300.0, "2h": 7200.0, "30d": 2_592_000.0, "0s": 0.0}
SIZES = {"0B": 0, "512B": 512, "64KiB": 65_536, "10MiB": 10_485_760, "2GiB": 2**31, "1TiB": 2**40}
NO_DURATION = [
    "",
    "10",
    "s",
    "10 s",
    "-1s",
    "+1s",
    "1e3s",
    "10S",
    "10sec",
    "1h30m",
    ".5s",
    "1.s",
    "١s",
    "10s\n",
    "9" * 13 + "s",
]
NO_SIZE = ["", "64", "64kb", "64KB", "64K", "1.5GiB", "-1B", "1 KiB", "1kib", "١B", "1B\n", "9" * 13 + "B"]
NO_DAY = [
    "",
    "2024-1-1",
    "2024-02-30",
    "2024-13-01",
    "20240101",
    "2024-01-01T00:00",
    "2024-01-01 ",
    "0000-01-01",
    "٢٠٢٤-01-01",
]


@pytest.mark.parametrize("text", DURATIONS)
def test_a_duration_is_its_seconds(text):
    assert seconds(text) == DURATIONS[text]


@pytest.mark.parametrize("text", SIZES)
def test_a_size_is_its_bytes(text):
    assert size(text) == SIZES[text]


@pytest.mark.parametrize("text", [*NO_DURATION, 10, 1.5, None, True, ("1s",)])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="a duration needs a unit"):
        seconds(text)


@pytest.mark.parametrize("text", [*NO_SIZE, 10, None, False])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="a size needs a unit"):
        size(text)


@pytest.mark.parametrize("text", [*NO_DAY, 20240101, None, dt.datetime(2024, 1, 1, tzinfo=dt.UTC)])
def test_what_is_no_day_is_refused(text):
    with pytest.raises(ValueError, match="day"):
        day(text)


@given(st.integers(0, 10**12 - 1), st.sampled_from(["ms", "s", "m", "h", "d"]))
@settings(deadline=None)
def test_a_duration_written_again_is_the_same(number, unit):
    value = seconds(f"{number}{unit}")
    assert seconds(duration_text(value)) == pytest.approx(value, rel=1e-12)


@given(st.integers(0, 10**12 - 1), st.sampled_from(["B", "KiB", "MiB", "GiB", "TiB"]))
@settings(deadline=None)
def test_a_size_written_again_is_the_same(number, unit):
    value = size(f"{number}{unit}")
    assert size(size_text(value)) == value


@given(st.integers(0, 10**6), st.sampled_from(["ms", "s", "m", "h", "d"]))
@settings(deadline=None)
def test_a_longer_duration_is_longer(number, unit):
    assert seconds(f"{number + 1}{unit}") > seconds(f"{number}{unit}")


@given(st.dates())
@settings(deadline=None)
def test_a_day_is_the_day_it_names(date):
    assert day(date.isoformat()) == date


@given(st.text())
@settings(deadline=None)
def test_any_text_is_a_unit_or_a_value_error(text):
    for reader in (seconds, size, day):
        with contextlib.suppress(ValueError):
            assert reader(text) is not None
