"""When a leased cluster has to end, and why; never before its time, whatever is known of it."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stackyard.leasing import money
from stackyard.leasing.deciding import Decision, decide, ends
from stackyard.leasing.facts import Extension, Facts, Instance, Lease, Reason, Seen, Signal, Suspension, Told, Used
from stackyard.leasing.news import late
from stackyard.spec.leases import ExtensionSpec, HoursSpec, LeaseBudgetSpec, LeaseSpec

OPENED = dt.datetime(2027, 2, 1, 9, tzinfo=dt.UTC)
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
RESTS = Signal(name="processes", known=True, used=OPENED, because="only bash (7) sleeps")
RUNS = Used(at=OPENED, what="opened", generation=1, workers=2, cpus=4, gpus=1, hourly_price=0.5)
EXTEND = ExtensionSpec.model_construct(times=2, by=604_800.0)


def lease(**terms: Any) -> Lease:
    budget = terms.pop("money", None)
    return Lease(
        terms=LeaseSpec.model_construct(**{**LeaseSpec().__dict__, **terms}),
        budget=LeaseBudgetSpec.model_construct(money=budget, hourly_price=0.5),
        owner="ada",
        tell=(),
        every=300.0,
        stack="lab",
        stack_id="s1",
        suspend=("true",),
        resume=("true",),
    )


def facts(**changes: Any) -> Facts:
    terms = {name: changes.pop(name) for name in (*LeaseSpec.model_fields, "money") if name in changes}
    whole = Facts(
        cluster="bench",
        lease=lease(**terms),
        instance=Instance(instance="i-1", generation=1, sealed=False, opened=OPENED),
        usage=(RUNS,),
        signals=(RESTS,),
        running=True,
    )
    return replace(whole, **changes)


def suspended(reason: Reason) -> Suspension:
    return Suspension(instance="i-1", generation=1, reason=reason, because="it was", at=OPENED + HOUR, whole=True)


def extended(seconds: float) -> Extension:
    return Extension(at=OPENED, by="ada", seconds=seconds, because="a paper")


LONGER, USED = (extended(3600),), (RESTS.model_copy(update={"used": OPENED + HOUR}),)
BUSY, UNKNOWN = RESTS.model_copy(update={"busy": True}), RESTS.model_copy(update={"known": False})
OFFICE = HoursSpec(span="07:00-20:00")
END = dt.date(2027, 2, 3)

CASES: dict[str, tuple[Facts, dt.timedelta, str, str | None]] = {
    "nothing-over": (facts(), HOUR, "running", None),
    "on-its-last-day": (facts(end=END), dt.timedelta(days=2, hours=14, minutes=59), "running", None),
    "after-its-last-day": (facts(end=END), dt.timedelta(days=2, hours=15), "suspended", "end"),
    "extended-over-its-last-day": (facts(end=END, extensions=LONGER), dt.timedelta(days=2.65), "running", None),
    "after-the-extension": (facts(end=END, extensions=LONGER), dt.timedelta(days=2.67), "suspended", "end"),
    "before-its-ttl": (facts(ttl=3600.0), HOUR - dt.timedelta(seconds=1), "running", None),
    "after-its-ttl": (facts(ttl=3600.0), HOUR, "suspended", "ttl"),
    "extended-over-its-ttl": (facts(ttl=3600.0, extensions=(extended(60),)), HOUR, "running", None),
    "the-last-day-there-is": (facts(end=dt.date.max), HOUR, "running", None),
    "a-ttl-beyond-the-calendar": (facts(ttl=1e17), HOUR, "running", None),
    "money-left": (facts(money=5.0), 9 * HOUR, "running", None),
    "money-spent": (facts(money=5.0), 10 * HOUR, "suspended", "budget"),
    "idle": (facts(idle=3600.0), HOUR, "suspended", "idle"),
    "used-since": (facts(idle=3600.0, signals=USED), 1.9 * HOUR, "running", None),
    "busy": (facts(idle=3600.0, signals=(BUSY,)), HOUR, "running", None),
    "use-unknown": (facts(idle=3600.0, signals=(RESTS, UNKNOWN)), 9 * HOUR, "running", None),
    "nobody-ever-looked": (facts(idle=3600.0, signals=()), 9 * HOUR, "running", None),
    "resumed-since": (facts(idle=3600.0, resumed=OPENED + HOUR), 1.9 * HOUR, "running", None),
    "in-its-hours": (facts(hours=OFFICE), HOUR, "running", None),
    "outside-its-hours": (facts(hours=OFFICE), 12 * HOUR, "suspended", "hours"),
    "suspended-by-night": (facts(hours=OFFICE, suspended=suspended("hours")), 12 * HOUR, "suspended", "hours"),
    "suspended-until-day": (facts(hours=OFFICE, suspended=suspended("hours")), 23 * HOUR, "running", None),
    "suspended-at-its-end-and-extended": (facts(suspended=suspended("end")), HOUR, "running", None),
    "suspended-while-idle": (facts(suspended=suspended("idle")), HOUR, "suspended", None),
    "suspended-by-a-person": (facts(suspended=suspended("asked")), HOUR, "suspended", None),
    "suspended-as-an-orphan": (facts(suspended=suspended("orphan")), HOUR, "suspended", None),
    "sealed": (facts(ttl=3600.0, sealed=True), 9 * HOUR, "left", None),
    "another-stack's": (facts(ttl=3600.0, foreign="its tag is another's"), 9 * HOUR, "left", None),
    "no-lease": (facts(lease=None), 9 * HOUR, "left", None),
    "no-instance": (facts(ttl=3600.0, instance=None), 9 * HOUR, "left", None),
    "never-opened": (facts(ttl=3600.0, instance=Instance(instance="i-1", sealed=False)), 9 * HOUR, "left", None),
    "over-by-a-clock-that-was-set": (facts(ttl=3600.0, holds=("the clock was set",)), 9 * HOUR, "running", None),
    "suspended-and-the-clock-was-set": (facts(suspended=suspended("end"), holds=("set",)), HOUR, "suspended", None),
}  # fmt: skip


@pytest.mark.parametrize(("found", "later", "wants", "reason"), CASES.values(), ids=CASES.keys())
def test_a_cluster_runs_until_something_ends_it(
    found: Facts, later: dt.timedelta, wants: str, reason: str | None
) -> None:
    decision = decide(found, OPENED + later)
    assert (decision.wants, None if decision.over is None else decision.over.reason) == (wants, reason)
    assert decision.because
    assert "\n" not in decision.because


def test_grace_runs_from_the_end_and_not_from_the_first_look_after_it() -> None:
    found = facts(ttl=3600.0, grace=7200.0)
    assert found.lease is not None
    for later, over in ((1.0, False), (2.9, False), (3.0, True)):
        now = OPENED + later * HOUR
        assert decide(found, now).grace_over(found.lease, now) is over


def warned(found: Facts, now: dt.datetime) -> tuple[Facts, float | None]:
    """The warning that is due, and the facts once it was given."""
    warning = decide(found, now).warning
    if warning is None:
        return found, None
    notes = [
        Told(before=before, reason=warning.end.reason, end=warning.end.at, at=now, because="")
        for before in (warning.before, *warning.passed)
    ]
    return replace(found, told=(*found.told, *notes)), warning.before


def test_each_warning_is_given_once() -> None:
    found, given_at = facts(end=dt.date(2027, 2, 20)), []
    now = OPENED
    while now < OPENED + 21 * DAY:
        found, before = warned(found, now)
        given_at += [] if before is None else [(before / 3600, str(now)[5:13])]
        now += HOUR
    assert given_at == [(168.0, "02-14 00"), (72.0, "02-18 00"), (24.0, "02-20 00"), (1.0, "02-20 23")]


def test_of_several_warnings_only_the_most_urgent_is_given() -> None:
    found, before = warned(facts(end=dt.date(2027, 2, 20)), dt.datetime(2027, 2, 20, 12, tzinfo=dt.UTC))
    assert before == 86_400.0
    assert warned(found, dt.datetime(2027, 2, 20, 13, tzinfo=dt.UTC))[1] is None


def test_an_extended_lease_is_warned_of_anew() -> None:
    found, before = warned(facts(end=dt.date(2027, 2, 20)), dt.datetime(2027, 2, 20, 12, tzinfo=dt.UTC))
    assert before == 86_400.0
    found = replace(found, extensions=(extended(30 * 86_400.0),))
    assert warned(found, dt.datetime(2027, 2, 20, 12, tzinfo=dt.UTC))[1] is None
    assert warned(found, dt.datetime(2027, 3, 22, 12, tzinfo=dt.UTC))[1] == 86_400.0


def test_a_lease_shorter_than_a_warning_is_not_warned_of_when_it_begins() -> None:
    assert decide(facts(ttl=7200.0), OPENED + HOUR / 2).warning is None
    warning = decide(facts(ttl=7200.0), OPENED + HOUR).warning
    assert warning is not None and warning.before == 3600.0


def test_what_it_cost_is_of_the_times_in_which_it_ran() -> None:
    closed = Used(at=OPENED + 2 * HOUR, what="closed", generation=1)
    again = RUNS.model_copy(update={"at": OPENED + 10 * HOUR})
    killed = Seen(generation=1, at=OPENED + 11 * HOUR)
    later = OPENED + 20 * HOUR
    for usage, seen, running, hours in (
        ((RUNS,), None, True, 20.0),
        ((RUNS,), None, False, 0.0),
        ((RUNS, closed), None, False, 2.0),
        ((RUNS, closed, again), None, True, 12.0),
        ((RUNS, closed, again), killed, False, 3.0),
        ((RUNS, again), killed, True, 20.0),
        ((RUNS, again), Seen(generation=1, at=OPENED + 4 * HOUR), True, 14.0),
        ((closed,), killed, True, 0.0),
    ):
        bill = money.bill(money.spans(usage, seen, running=running), later)
        assert (bill.hours, bill.cpu_hours, bill.gpu_hours) == (hours, hours * 8, hours * 2)
        assert bill.cost == hours * 0.5


LATE: dict[str, tuple[Facts, dt.datetime | None, bool]] = {
    "saved-lately": (facts(), OPENED + 9 * HOUR, False),
    "saved-long-ago": (facts(), OPENED + 8 * HOUR, True),
    "never-saved": (facts(), None, True),
    "saved-before-it-was-resumed": (facts(resumed=OPENED + 9 * HOUR), OPENED, False),
    "started-again-lately": (facts(usage=(RUNS.model_copy(update={"at": OPENED + 9 * HOUR}),)), OPENED, False),
    "nothing-runs": (facts(running=False), OPENED, False),
    "suspended": (facts(suspended=suspended("end")), OPENED, False),
    "sealed": (facts(sealed=True), OPENED, False),
}


@pytest.mark.parametrize(("found", "safe", "want"), LATE.values(), ids=LATE.keys())
def test_a_saver_is_late_after_twice_its_time_since_it_runs(found: Facts, safe: dt.datetime | None, want: bool) -> None:
    assert late(found, safe, OPENED + 9 * HOUR + dt.timedelta(seconds=599)) is want


moments = st.datetimes(timezones=st.just(dt.UTC))
near = st.floats(-40 * 86_400.0, 400 * 86_400.0).map(lambda s: OPENED + dt.timedelta(seconds=s))
seconds = st.floats(1.0, 1e9)
hours_specs = st.builds(
    HoursSpec.model_construct,
    span=st.sampled_from(["07:00-20:00", "22:00-06:00", "02:30-02:31", "00:00-23:59"]),
    days=st.lists(st.sampled_from(["mon", "tue", "wed", "thu", "fri", "sat", "sun"]), min_size=1, unique=True).map(
        tuple
    ),
    timezone=st.sampled_from(["UTC", "Europe/Zurich", "Pacific/Auckland", "America/Los_Angeles"]),
)
terms = st.fixed_dictionaries(
    {},
    optional={
        "end": st.dates(dt.date(2027, 2, 1), dt.date(2028, 1, 1)),
        "ttl": seconds,
        "idle": seconds,
        "grace": st.floats(0, 1e9),
        "hours": hours_specs,
        "money": st.floats(0.01, 1e6),
        "extend": st.just(EXTEND),
    },
)
uses = st.lists(
    st.builds(
        Used,
        at=near,
        what=st.sampled_from(["opened", "closed"]),
        generation=st.integers(0, 3),
        hourly_price=st.floats(0, 1e6),
    ),
    max_size=5,
).map(tuple)
signals = st.lists(
    st.builds(Signal, name=st.just("s"), known=st.booleans(), busy=st.booleans(), used=st.none() | near), max_size=3
).map(tuple)
worlds = st.builds(
    lambda terms, **rest: facts(**terms, **rest),
    terms,
    usage=uses,
    signals=signals,
    extensions=st.lists(seconds.map(extended), max_size=3).map(tuple),
    suspended=st.none() | st.sampled_from(get_args(Reason)).map(suspended),
    running=st.booleans(),
    sealed=st.booleans(),
    holds=st.sampled_from([(), ("the clock was set",)]),
    seen=st.none() | st.builds(Seen, generation=st.integers(0, 3), at=near),
    resumed=st.none() | near,
)  # fmt: skip


@given(worlds, moments | near)
@example(facts(hours=OFFICE), dt.datetime.max.replace(tzinfo=dt.UTC))
@example(facts(hours=OFFICE, ttl=1e17), dt.datetime.min.replace(tzinfo=dt.UTC))
def test_every_world_gets_a_decision_with_its_reason(found: Facts, now: dt.datetime) -> None:
    decision = decide(found, now)
    assert decision.because
    assert (decision.over is not None) <= (decision.wants == "suspended")


@given(worlds, near)
def test_nothing_ends_before_its_time(found: Facts, now: dt.datetime) -> None:
    decision, terms = decide(found, now), found.lease and found.lease.terms
    if found.sealed or found.holds:
        assert decision.over is None
        assert decision.warning is None
    if decision.over is None or terms is None or found.lease is None:
        return
    more = dt.timedelta(seconds=sum(each.seconds for each in found.extensions))
    assert decision.over.since <= now
    match decision.over.reason:
        case "end":
            assert terms.end is not None
            assert now.astimezone(dt.UTC) - more >= dt.datetime.combine(terms.end + DAY, dt.time(), dt.UTC)
        case "ttl":
            assert (now - OPENED - more).total_seconds() >= terms.ttl - 1e-3
        case "budget":
            spent = money.bill(money.spans(found.usage, found.seen, running=found.running), now).cost
            assert found.lease.budget.money is not None
            assert spent >= found.lease.budget.money
        case "idle":
            assert all(signal.known and not signal.busy for signal in found.signals)
            used = [OPENED, *(signal.used for signal in found.signals if signal.used is not None)]
            assert terms.idle is not None
            assert (now - max(used)).total_seconds() >= terms.idle - 1e-3
        case "hours":
            assert terms.hours is not None
        case other:
            pytest.fail(f"{other} is no reason of a lease")


@given(worlds, near, seconds)
def test_an_extension_never_ends_anything_earlier(found: Facts, now: dt.datetime, more: float) -> None:
    longer = replace(found, extensions=(*found.extensions, extended(more)))
    before, after = {e.reason: e.at for e in ends(found, now)}, {e.reason: e.at for e in ends(longer, now)}
    for reason, at in after.items():
        assert at >= before[reason]
    over, still = decide(found, now).over, decide(longer, now).over
    if over is None:
        assert still is None


@given(worlds, near, near)
def test_what_is_over_stays_over_while_nothing_of_it_changes(
    found: Facts, one: dt.datetime, other: dt.datetime
) -> None:
    first, later = sorted((one, other))
    lasting = ("end", "ttl")
    decision: Decision = decide(found, first)
    if decision.over is not None and decision.over.reason in lasting:
        assert decide(found, later).wants == "suspended"


@given(worlds, near)
def test_whom_a_person_has_to_resume_nothing_else_resumes(found: Facts, now: dt.datetime) -> None:
    if found.suspended is not None and found.suspended.reason in ("idle", "orphan", "asked"):
        assert decide(found, now).wants != "running"
