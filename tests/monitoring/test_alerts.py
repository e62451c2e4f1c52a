"""The owner hears of each trouble once, grouped and within limits, and hears when it is over."""

import datetime as dt
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackyard.monitoring import alerts
from stackyard.monitoring.alerts import Event, due
from stackyard.spec.loop import AlertsSpec

START = dt.datetime(2013, 5, 1, tzinfo=dt.UTC)
SPEC = AlertsSpec(owners={"data": ("DATA_TEAM",), "model": ("MODEL_TEAM", "BOSS")}, webhooks={"ci": "CI_HOOK"}, daily=3)


def _event(key: str, owner: Any = "data", **more: Any) -> Event:
    told = {"what": f"{key} is off", "since": "2013-05-01T00:00:00+00:00", "cause": "feature distance", **more}
    return Event(key=key, owner=owner, **told)


def _at(hours: float) -> dt.datetime:
    return START + dt.timedelta(hours=hours)


def _told(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(message["destination"], message["title"]) for message in messages]


def test_a_message_says_what_since_when_why_what_was_done_and_what_to_do() -> None:
    event = _event("quality:1", done="the day is quarantined", todo="look at the sensor")
    _, (message,) = due({}, [event], SPEC, START, "flights")
    assert message["title"] == "flights: quality:1 is off"
    assert message["body"].splitlines() == [
        "quality:1 is off",
        "Since: 2013-05-01T00:00:00+00:00",
        "Likely cause: feature distance",
        "Done: the day is quarantined",
        "To do: look at the sensor",
    ]


def test_a_trouble_that_lasts_is_told_once_however_often_it_is_seen() -> None:
    state: alerts.State = alerts.fresh()
    sent: list[dict[str, Any]] = []
    for hour in range(48):
        state, messages = due(state, [_event("drift", topic="drift")], SPEC, _at(hour))
        sent += messages
    assert [message["destination"] for message in sent] == ["webhook ci", "DATA_TEAM"]


def test_troubles_of_one_owner_within_the_span_are_one_message() -> None:
    state, first = due({}, [_event("a")], SPEC, _at(0))
    state, second = due(state, [_event("b")], SPEC, _at(0.2))
    state, third = due(state, [_event("c"), _event("x", "model")], SPEC, _at(0.4))
    state, fourth = due(state, [], SPEC, _at(1))
    assert _told(first) == [("DATA_TEAM", "a is off")]
    assert second == []
    assert _told(third) == [("MODEL_TEAM", "x is off"), ("BOSS", "x is off")]
    assert _told(fourth) == [("DATA_TEAM", "2 messages about the data")]
    assert "b is off" in fourth[0]["body"]


def test_the_end_of_a_trouble_is_told_to_whom_it_was_told() -> None:
    state, _ = due({}, [_event("a", topic="drift")], SPEC, _at(0))
    over = Event(key="a", owner="data", what="", since="", state="resolved")
    state, messages = due(state, [over, over], SPEC, _at(2))
    assert _told(messages) == [("webhook ci", "a is off"), ("DATA_TEAM", "over: a is off")]
    assert json.loads(messages[0]["body"])["state"] == "resolved"
    assert state["open"] == {}


def test_a_trouble_that_ended_before_it_was_told_is_not_told() -> None:
    state, _ = due({}, [_event("a")], SPEC, _at(0))
    state, _ = due(state, [_event("b")], SPEC, _at(0.1))
    state, _ = due(state, [_event("b", state="resolved")], SPEC, _at(0.2))
    assert due(state, [], SPEC, _at(3))[1] == []


def test_a_trouble_that_comes_back_is_news() -> None:
    state, _ = due({}, [_event("a")], SPEC, _at(0))
    state, _ = due(state, [_event("a", state="resolved")], SPEC, _at(2))
    _, messages = due(state, [_event("a", since="2013-05-01T04:00:00+00:00")], SPEC, _at(4))
    assert _told(messages) == [("DATA_TEAM", "a is off")]


def test_a_destination_gets_no_more_than_its_day_allows_and_then_hears_how_many_were_left_out() -> None:
    state: alerts.State = alerts.fresh()
    sent: list[dict[str, Any]] = []
    for hour in range(10):
        state, messages = due(state, [_event(f"e{hour}")], SPEC, _at(hour))
        sent += messages
    assert len(sent) == 3
    state, (next_day,) = due(state, [_event("later")], SPEC, _at(25))
    assert "Left out before this: 7" in next_day["body"]
    _, (another,) = due(state, [_event("latest")], SPEC, _at(27))
    assert "Left out" not in another["body"]


def test_a_moment_offered_again_by_a_controller_that_was_killed_is_told_once() -> None:
    moment = _event("release-7", "model", state="moment", topic="promotion")
    state, first = due({}, [moment], SPEC, _at(0))
    kept = json.loads(json.dumps(state))
    assert len(first) == 3
    assert due(kept, [moment], SPEC, _at(5))[1] == []
    assert due({}, [moment], SPEC, _at(0))[1] == first  # the state was lost: the same ids


def test_without_an_owner_a_trouble_only_stands_in_the_state() -> None:
    state, messages = due({}, [_event("full", "platform")], SPEC, START)
    assert messages == []
    assert list(state["open"]) == ["full"]


def test_what_was_delivered_leaves_the_outbox_and_what_failed_stays() -> None:
    state, (message,) = due({}, [_event("a")], SPEC, START)
    state = alerts.failed(state, message["id"], "ConnectError", START)
    assert state["failures"]["DATA_TEAM"]["why"] == "ConnectError"
    assert list(state["outbox"]) == [message["id"]]
    state = alerts.delivered(state, message["id"])
    assert (state["outbox"], state["failures"]) == ({}, {})


def test_a_destination_that_stays_away_fills_no_disk() -> None:
    events = [_event(f"r{number}", "platform", state="moment", topic="rollback") for number in range(700)]
    state, messages = due({}, events, SPEC, START)
    assert len(state["outbox"]) == len(messages) == alerts.WAITING
    assert state["failures"]["webhook ci"]["dropped"] == 200


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["open", "resolved", "moment"]), st.floats(0, 5)), max_size=40
    )
)
@pytest.mark.parametrize("daily", [1, 3])
def test_no_destination_ever_gets_more_than_its_day_allows_nor_two_within_the_span(
    daily: int, offered: list[tuple[str, str, float]]
) -> None:
    spec = SPEC.model_copy(update={"daily": daily})
    state, hours = alerts.fresh(), 0.0
    sent: list[tuple[str, dt.datetime]] = []
    for key, kind, passed in offered:
        hours += passed
        event = _event(key, state=kind, since=_at(hours).isoformat())
        state, messages = due(state, [event], spec, _at(hours))
        sent += [(message["destination"], _at(hours)) for message in messages]
    times = [when for destination, when in sent if destination == "DATA_TEAM"]
    assert all((later - earlier).total_seconds() >= spec.group - 1 for earlier, later in itertools.pairwise(times))
    days = [when.date() for when in times]
    assert all(days.count(day) <= daily for day in days)
