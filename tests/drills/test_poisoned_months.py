"""A poisoned month of real flights: found at once, told to its owner, learnt by no model, let go by hand alone."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from spoiling import MAY, POISONS, Spring
from stackyard.store import layout
from winter import Winter

A_WEEK = dt.date(2013, 5, 9)
"""Here the month is lived through for so long: each of its days is judged alike."""
ONE = dt.timedelta(days=1)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def winter() -> Winter:
    return Winter.learnt()


@pytest.mark.parametrize("name", POISONS, ids=[name.replace(" ", "-") for name in POISONS])
def test_a_poisoned_month_is_quarantined_from_its_first_day_and_teaches_no_model(
    tmp_path: Path, winter: Winter, name: str
) -> None:
    """Earns: the way from the log over verdict, alert and policy to the snapshot, on a spring as it was."""
    spring = Spring(tmp_path, winter, name, A_WEEK)
    found = spring.live()
    lived = (A_WEEK - MAY).days
    awaited = 1 if name == "labels flipped" else 0  # the last day's labels have not come yet
    assert found.day == MAY
    assert found.known.date() <= MAY + (1 + awaited) * ONE
    assert found.quarantined == lived - awaited and found.sound == 0
    excluded = spring.runs.intents[-1]["exclude"]
    assert excluded == [(MAY + place * ONE).isoformat() for place in range(lived - awaited)]
    assert found.taught == 0
    assert found.new_rows == sum(rows for day, rows in spring.counts.items() if day < MAY)
    assert any(MAY.isoformat() in each and "stackyard data release 2013-05-01" in each for each in found.told)
    promised = json.loads(spring.store.read(layout.bundle_file(spring.champion, "reference.json")))
    assert promised == json.loads(winter.files["reference.json"]), "the reference is the bundle's, and does not move"


def test_a_day_that_a_person_lets_go_is_learnt_from_and_the_others_stay_shut(tmp_path: Path, winter: Winter) -> None:
    """Earns: `stackyard data release`, which holds from the moment it is said."""
    spring = Spring(tmp_path, winter, "stuck sensor", A_WEEK)
    shut = spring.midnight(A_WEEK)["quarantined"]
    assert shut == [(MAY + place * ONE).isoformat() for place in range(len(shut))] and len(shut) == 8
    spring.says("data", "release", shut[0], "--because", "the sensor was right")
    spring.train()
    assert spring.runs.intents[-1]["exclude"] == shut[1:]
    said = spring.journal.read("flights", "verdicts") or {}
    assert (said["released"], said["quarantined"]) == (shut[:1], shut[1:])
    assert spring.taught() == spring.counts[MAY]
