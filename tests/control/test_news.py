"""What people hear of follows from the world, and a look in which nothing was decided tells of no end."""

import datetime as dt

from stackyard.control import news
from stackyard.control.actions import Action, Ask, Propose, Publish, Wait
from stackyard.control.world import Answer, World
from stackyard.monitoring import alerts
from stackyard.spec.loop import AlertsSpec

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
SPEC = AlertsSpec(owners={"model": ("MAIL",)})
DONE, OPEN = Answer("today", {"labelled_until": "2026-01-01"}), Answer("today")
PROPOSED, HELD = Propose("drift: x"), Wait("nothing asks for a retraining")


def _titles(looks: list[tuple[Answer, Action]]) -> list[str]:
    state, told = alerts.fresh(), []
    for hours, (verdicts, action) in enumerate(looks):
        now = START + dt.timedelta(hours=12 * hours)
        world = World("m", "r", "a" * 64, 1, (), verdicts=verdicts)
        state, messages = alerts.due(state, news.events(world, [action], {}, now.isoformat()), SPEC, now, "m")
        told += [message["title"] for message in messages]
    return told


def test_a_proposal_that_lasts_is_told_once_and_its_end_once() -> None:
    asked, weighed = Ask("verdicts", "tomorrow", "weigh"), Wait("being weighed", pending=True)
    released = Publish(2, "b" * 64, "version 2 is promoted")
    day: list[tuple[Answer, Action]] = [(DONE, asked), (OPEN, weighed), (DONE, PROPOSED), (DONE, released)]
    assert len(_titles([(DONE, PROPOSED), *day, *day])) == 1
    told = _titles([(DONE, PROPOSED), *day, (DONE, HELD), (DONE, HELD)])
    assert [title.startswith("m: over: ") for title in told] == [False, True]
