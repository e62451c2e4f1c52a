"""Clusters that are lent: what holds where nothing is written, and when a lease is over."""

from __future__ import annotations

import datetime as dt

import pytest

from stackyard.spec import SpecError, check_leases
from stackyard.spec.lease_rules import end_of
from stackyard.spec.leases import LeasedClusterSpec, LeaseSpec

KEPT = [("keep: false", "keep: true")]
LENT = "clusters:\n  lab:\n    owner: ada\n    lease:\n      end: 2027-02-28\n"


def test_what_is_not_written_still_ends_and_is_still_saved(checkout):
    lab = checkout.edit([], KEPT).append(stack="clusters: {lab: {owner: ada}}\n").load().environment.clusters["lab"]
    assert (lab.workers, lab.cpus, lab.gpus, lab.notebook) == (1, 1, 0, False)
    assert (lab.lease.end, lab.lease.ttl, lab.lease.grace) == (None, 30 * 86_400.0, 86_400.0)
    assert (lab.save.every, lab.save.exclude, lab.save.largest, lab.save.encrypt) == (300.0, (), None, False)


@pytest.mark.parametrize(
    ("now", "over"),
    [
        pytest.param("2027-02-27T00:00:00+00:00", False, id="before-the-last-day"),
        pytest.param("2027-02-28T23:59:59+00:00", False, id="on-the-last-day"),
        pytest.param("2027-03-01T00:00:00+00:00", True, id="the-day-after"),
        pytest.param("2027-03-01T00:30:00+01:00", False, id="still-the-last-day-in-utc"),
        pytest.param("2030-01-01T00:00:00+00:00", True, id="long-ago"),
    ],
)
def test_a_lease_holds_until_the_end_of_its_last_day(checkout, now: str, over: bool):
    spec = checkout.edit([], KEPT).append(stack=LENT).load()
    if not over:
        return check_leases(spec, dt.datetime.fromisoformat(now))
    with pytest.raises(SpecError) as refused:
        check_leases(spec, dt.datetime.fromisoformat(now))
    lines = spec.file.read_text().splitlines()
    [problem] = refused.value.problems
    assert lines[problem.line - 1].strip() == "end: 2027-02-28"
    assert str(problem).endswith(
        'clusters.lab.lease.end: "2027-02-28": is in the past, so nothing would be made for it; '
        "write a later day, or take the cluster away"
    )
    return None


@pytest.mark.parametrize("end", [None, dt.date.max], ids=["none", "the-last-day-there-is"])
def test_a_lease_without_an_end_that_could_be_named_has_none(end: dt.date | None):
    assert end_of(LeasedClusterSpec(owner="ada", lease=LeaseSpec.model_construct(end=end))) is None
