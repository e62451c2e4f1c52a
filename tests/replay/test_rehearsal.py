"""The short form of the replay, on the real engine, service and Ray: one candidate refused, the next promoted.

Slow (minutes), and it earns them: here the loop closes on real data, and what is told of it is derived again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from journey import Checkout, copy_of_this_checkout

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.engine, pytest.mark.timeout(1200)]
UNTIL, SAMPLE = "2013-01-22", "0.3"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A copy of this checkout with the stack `rehearsal` up."""
    made = copy_of_this_checkout(tmp_path_factory.mktemp("rehearsal") / "checkout")
    made.stack = "rehearsal"
    made.environment["WAREHOUSE_TOKEN"] = "any"
    assert made.run("pulumi", "config", "set", "--secret", "WAREHOUSE_TOKEN", "any", "-s", "rehearsal").returncode == 0
    made.make("up")
    yield made
    made.run("pulumi", "destroy", "-s", "rehearsal", "--yes", "--skip-preview")


def test_the_short_form_retrains_refuses_and_promotes_without_a_failed_request(checkout: Checkout) -> None:
    command = ["env", "WAREHOUSE_TOKEN=any", "stackyard", "replay", "-s", "rehearsal"]
    done = checkout.run(*command, "--until", UNTIL, "--sample", SAMPLE, seconds=900)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout.splitlines()[-1])
    assert (line["failed_requests"], line["rollbacks"]) == (0, 0)
    assert line["requests"] > 2000
    assert 1 <= line["retrains"] <= 3
    assert line["promotions"] >= 1
    assert line["refused"] >= 1
    assert line["loop_auc_mean"] != line["frozen_auc_mean"]
    assert line["loop_auc_mean"] > line["frozen_auc_mean"] - 0.005, "a day or two of the new champion"
    assert "promoted" in Path(line["report"]).read_text()
    again = checkout.run(*command, "--until", UNTIL, "--sample", SAMPLE)
    assert json.loads(again.stdout.splitlines()[-1]) == line
