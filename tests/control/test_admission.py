"""Who starts when not everybody can."""

from __future__ import annotations

import datetime as dt
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from stackyard.control.admission import Waiting, admit

NOW = dt.datetime(2030, 3, 15, 12, tzinfo=dt.UTC)


def test_of_fifty_models_with_room_for_five_the_five_that_waited_longest_start() -> None:
    waiting = [Waiting(f"m{number:02d}", NOW - dt.timedelta(hours=number), "low") for number in range(50)]
    random.Random(0).shuffle(waiting)
    started, queued = admit([*waiting, *waiting[:20]], running=0, limit=5)
    assert [one.model for one in started] == ["m49", "m48", "m47", "m46", "m45"]
    assert len(queued) == 45
    assert queued[0].model == "m44"
    assert (queued[0].place, queued[-1].model) == (1, "m00")
    assert "5 of 5 places are taken; 44 model(s) have waited longer" in queued[-1].reason


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 9)), max_size=20), st.integers(0, 6), st.integers(0, 6)
)
def test_admission_is_fair_and_never_over_its_limit(asked: list[tuple[str, int]], running: int, limit: int) -> None:
    waiting = [Waiting(model, NOW + dt.timedelta(hours=hours)) for model, hours in asked]
    started, queued = admit(waiting, running, limit)
    assert running + len(started) <= max(limit, running)
    assert {one.model for one in started} | {one.model for one in queued} == {model for model, _ in asked}
    assert len(started) + len(queued) == len({model for model, _ in asked})
    assert admit(list(reversed(waiting)), running, limit) == (started, queued)
    assert not queued or len(started) == max(0, limit - running)
