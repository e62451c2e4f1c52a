"""What the controller decides, as a table: a world, a time, the actions."""

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackyard.control.actions import Abandon, Project, Publish, StartRun, Wait
from stackyard.control.decide import ATTEMPTS, PATIENCE, decide
from stackyard.control.world import RunSeen, World

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
EMPTY = World(model="m", recipe="r1", champion=None, release=0, runs=())


def _run(number: int = 1, **facts: object) -> RunSeen:
    return replace(RunSeen(run_id=f"m-{number}", number=number, recipe="r1", state="running"), **facts)  # type: ignore[arg-type]


def _failed(number: int, minutes_ago: float, recipe: str = "r1") -> RunSeen:
    ended = NOW - dt.timedelta(minutes=minutes_ago)
    return _run(number, state="failed", ended=ended, reason="bad data", recipe=recipe)


@pytest.mark.parametrize(
    ("world", "expected"),
    [
        pytest.param(EMPTY, StartRun(1, "no champion"), id="nothing yet"),
        pytest.param(replace(EMPTY, runs=[_run()]), Wait("run 1 is training"), id="run under way"),
        pytest.param(replace(EMPTY, runs=[_run(state="pending")]), StartRun(1, "never started"), id="intent only"),
        pytest.param(
            replace(EMPTY, runs=[_run(state="pending", attempts=1, started=NOW - dt.timedelta(minutes=1))]),
            StartRun(1, "newest checkpoint"),
            id="run was killed",
        ),
        pytest.param(
            replace(EMPTY, runs=[_run(state="pending", attempts=3, started=NOW - dt.timedelta(seconds=1))]),
            Wait("taken up at"),
            id="run keeps dying: back-off",
        ),
        pytest.param(
            replace(EMPTY, runs=[_run(state="pending", attempts=ATTEMPTS, started=NOW)]),
            Abandon("m-1", "died 5 times"),
            id="run keeps dying: given up",
        ),
        pytest.param(
            replace(EMPTY, recipe="r2", runs=[_run(state="pending", attempts=1, started=NOW)]),
            Abandon("m-1", "the recipe has changed since"),
            id="spec changed while it was interrupted",
        ),
        pytest.param(
            replace(EMPTY, runs=[_run(state="failed", reason="none", ended=None)]),
            StartRun(2, "Tried again"),
            id="failed nobody knows when",
        ),
        pytest.param(
            replace(EMPTY, runs=[_run(state="succeeded", bundle="b" * 64)]),
            Publish(1, "b" * 64, "first champion"),
            id="first bundle",
        ),
        pytest.param(
            replace(EMPTY, champion="b" * 64, release=1, runs=[_run(state="succeeded", bundle="b" * 64)]),
            Wait("release 1 is live"),
            id="champion lives",
        ),
        pytest.param(replace(EMPTY, champion="b" * 64, release=4), Wait("release 4 is live"), id="journal was lost"),
        pytest.param(replace(EMPTY, runs=[_failed(1, 0.5)]), Wait("next try is at 12:00:30"), id="failed just now"),
        pytest.param(replace(EMPTY, runs=[_failed(1, 1)]), StartRun(2, "Tried again"), id="failed a minute ago"),
        pytest.param(
            replace(EMPTY, runs=[_failed(1, 9), _failed(2, 1)]), Wait("next try is at 12:01"), id="pause doubles"
        ),
        pytest.param(
            replace(EMPTY, runs=[_failed(n, 99) for n in range(1, PATIENCE + 1)]),
            Wait("Change the project"),
            id="patience is over",
        ),
        pytest.param(
            replace(EMPTY, recipe="r2", runs=[_failed(n, 0) for n in range(1, PATIENCE + 1)]),
            StartRun(PATIENCE + 1, "another recipe"),
            id="patience is over but the recipe changed",
        ),
    ],
)
def test_the_last_action_follows_from_the_world(world: World, expected: object) -> None:
    action = decide(world, NOW)[0]
    assert type(action) is type(expected)
    assert expected.reason in action.reason  # type: ignore[attr-defined]
    for name in ("number", "bundle", "run_id"):
        assert getattr(action, name, None) == getattr(expected, name, None)


def test_a_finished_run_is_shown_in_mlflow_once_and_only_when_there_is_one() -> None:
    world = replace(EMPTY, champion="b" * 64, release=1, mlflow=True, runs=[_run(state="succeeded", bundle="b" * 64)])
    assert decide(world, NOW)[1] == Project("m-1", champion=True, reason="MLflow does not show run 1 yet")
    assert not any(isinstance(a, Project) for a in decide(replace(world, mlflow=False), NOW))
    shown = replace(world, runs=[replace(world.runs[0], projected=True)])
    assert not any(isinstance(a, Project) for a in decide(shown, NOW))


states = st.sampled_from(["pending", "running", "succeeded", "failed"])
runs = st.lists(st.tuples(states, st.sampled_from(["r1", "r2"]), st.integers(0, 6)), max_size=6).map(
    lambda rows: [
        _run(i, state=state, recipe=recipe, attempts=attempts, started=NOW, bundle="b" * 64, ended=NOW)
        for i, (state, recipe, attempts) in enumerate(rows, start=1)
    ]
)


@given(runs=runs, champion=st.sampled_from([None, "b" * 64]), mlflow=st.booleans())
def test_at_most_one_run_is_ever_started_and_never_beside_a_living_one(
    runs: list[RunSeen], champion: str | None, mlflow: bool
) -> None:
    actions = decide(World("m", "r1", champion, 1 if champion else 0, runs, mlflow), NOW)
    starts = [action for action in actions if isinstance(action, StartRun)]
    assert len(starts) <= 1
    assert all(action.reason for action in actions)
    if starts:
        assert champion is None
        assert runs == [] or runs[-1].state != "running"
        assert starts[0].number in {len(runs), len(runs) + 1}
