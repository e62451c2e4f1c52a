"""What a fault cost is held to what the spec allows, and nothing that was not measured holds a limit."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from stackyard.rehearsals.judging import Measured, judge
from stackyard.spec.leases import RehearsalSpec

FINE = Measured(steps_before=100, steps_lost=4, resume=20.0, at_risk=1024, bytes_lost=0)
STRICT = RehearsalSpec.model_validate({"steps_lost": 4, "resume": "20s", "at_risk": "1KiB"})


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        pytest.param({}, [], id="exactly-at-the-limits"),
        pytest.param({"steps_lost": 5}, ["steps lost"], id="a-step-too-many"),
        pytest.param({"steps_lost": None, "resume": None}, ["steps lost", "time to resume"], id="never-went-on"),
        pytest.param({"resume": 20.1}, ["time to resume"], id="too-late"),
        pytest.param({"at_risk": 1025}, ["bytes at risk"], id="too-much-unsaved"),
        pytest.param({"at_risk": None}, ["bytes at risk"], id="nobody-knows-what-is-unsaved"),
        pytest.param({"bytes_lost": 1}, ["bytes lost"], id="a-byte-lost"),
    ],
)
def test_each_figure_is_held_to_its_limit(change: dict[str, Any], missed: list[str]):
    found = judge(dataclasses.replace(FINE, **change), STRICT)
    assert [each.name for each in found if not each.held] == missed


def test_what_the_spec_does_not_limit_is_shown_and_not_judged():
    worst = Measured(100, 100, 299.0, None, 0)
    assert all(each.held for each in judge(worst, RehearsalSpec()))
    assert [each.limit for each in judge(worst, RehearsalSpec())] == ["", "at most 5m", "", "none"]


def test_a_lost_byte_and_a_training_that_never_goes_on_are_missed_without_any_limit():
    found = judge(Measured(100, None, None, None, 1), RehearsalSpec())
    assert [each.held for each in found] == [False, False, True, False]
