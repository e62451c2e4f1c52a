"""Drills with challengers: real replicas behind HAProxy, the real controller, and users who must not notice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from drilled import A_DAY, DAYS, ROLLOUTS, SHARE, Kind, Outcome
from drillground import REPLICAS, Ground
from drilling import Drills

HURRY = 4.0
"""The clock's speed here: the controller looks four times a second, and is as far as in life after its few looks."""
FEW = 100
"""Answers of a senseless challenger that users may have seen, of a tenth of 40 requests a second."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def drills() -> Iterator[Drills]:
    ground = Ground()
    made = Drills(ground, HURRY)
    yield made
    made.close()
    ground.close()


def held(found: Outcome) -> None:
    """What every drill promises."""
    assert (found.failed, found.later) == (0, 0), found


@pytest.mark.parametrize(
    ("drill", "kind"),
    [
        pytest.param("errors", "canary", id="errors in a canary"),
        pytest.param("hangs", "canary", id="hangs in a canary"),
        pytest.param("eats memory", "canary", id="eats memory in a canary"),
        pytest.param("dies by signal", "canary", id="dies in a canary"),
        pytest.param("dies by signal", "shadow", id="dies in a shadow"),
    ],
)
def test_a_challenger_that_fails_is_taken_away_and_no_user_gets_an_error_or_its_answer(
    drills: Drills, drill: str, kind: Kind
) -> None:
    """Earns: the whole way from a fault to the Release that ends it, as clients see it."""
    found = drills.harm(drill, kind)
    held(found)
    assert (found.ended, found.exposed, found.wrong) == ("stopped", 0, 0), found
    assert "failed" in found.reason and found.tried > 0
    if kind == "canary":
        # A share of what came meanwhile, and never more soundly asked than the fuses allow.
        assert found.tried <= max(5 * SHARE * found.requests, 2 * REPLICAS * ROLLOUTS["canary"]["fuse"]), found


@pytest.mark.parametrize("kind", ["canary", "shadow"])
def test_a_challenger_that_answers_constants_is_stopped_by_the_distribution_of_its_answers(
    drills: Drills, kind: Kind
) -> None:
    """Earns: that sound but senseless answers reach a canary's share of users for seconds, and nobody from a shadow."""
    found = drills.harm("answers constants", kind)
    held(found)
    assert found.ended == "stopped" and "PSI of outputs" in found.reason
    assert found.exposed == found.wrong
    assert found.share < 3 * SHARE if kind == "canary" else found.exposed == 0
    assert found.exposed <= FEW


def test_a_challenger_that_is_worse_never_answers_anybody(drills: Drills) -> None:
    """Earns: the paired test on labels that come a day later, over the real logs of two replicas."""
    found = drills.quality("worse by 0.02 AUC")
    held(found)
    assert found.ended in ("stopped", "expired"), found
    assert (found.exposed, found.wrong) == (0, 0)
    assert found.requests <= (DAYS + 1) * A_DAY
    assert "auc is better by -0.0" in found.reason


def test_a_challenger_that_is_as_good_is_promoted(drills: Drills) -> None:
    """Earns: that the guards let a sound routine refresh through, with the same tests at the same traffic."""
    found = drills.quality("equal")
    held(found)
    assert (found.ended, found.wrong) == ("promoted", 0), found
    assert 0 < found.exposed < found.requests
