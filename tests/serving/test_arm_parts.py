"""The parts of a challenger that decide or parse: who is on which arm, when a fuse blows, what a message may hold."""

from __future__ import annotations

import asyncio
import json
import random
import struct
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackyard.serving import arm_wire, batching
from stackyard.serving.arm_items import assigned, caller
from stackyard.serving.arm_wire import Miss, WireError
from stackyard.serving.batching import Ask, Batcher, Logged, Placed
from stackyard.serving.fuse import FORGIVEN_BY, Fuse
from stackyard.serving.metrics import Metrics


def ask(row: dict[str, Any], request_id: str = "request-1") -> Ask:
    loop: Any = None
    future: asyncio.Future[Any] = None  # type: ignore[assignment]
    return Ask([row], request_id, future, loop, 0.0)


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_a_share_is_met_and_each_candidate_draws_anew(share: float) -> None:
    first = [assigned("one", f"caller-{index}", share) for index in range(20_000)]
    second = [assigned("two", f"caller-{index}", share) for index in range(20_000)]
    assert np.mean(first) == pytest.approx(share, abs=0.012) and np.mean(second) == pytest.approx(share, abs=0.012)
    both = np.mean([a and b for a, b in zip(first, second, strict=True)])
    assert both == pytest.approx(share**2, abs=0.012), "callers of one canary are not those of the next"


@given(st.text(max_size=8), st.text(max_size=8), st.floats(0.001, 1.0), st.floats(0.001, 1.0))
def test_a_larger_share_keeps_whom_a_smaller_saw(salt: str, value: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert not assigned(salt, value, small) or assigned(salt, value, large)
    assert assigned(salt, value, 1.0)


@pytest.mark.parametrize(
    ("row", "key", "value"),
    [
        pytest.param({"id": "a"}, "id", "a", id="a text"),
        pytest.param({"id": 3}, "id", "3.0", id="a whole number is the float it equals"),
        pytest.param({"id": 3.0}, "id", "3.0", id="a float"),
        pytest.param({"id": True}, "id", "True", id="a boolean"),
        pytest.param({"id": 2**60 + 1}, "id", str(2**60 + 1), id="an integer that no float holds"),
        pytest.param({"id": None}, "id", "request-1", id="a missing value"),
        pytest.param({}, "id", "request-1", id="a missing field"),
        pytest.param({"id": "a"}, None, "request-1", id="no key declared"),
    ],
)
def test_a_caller_is_known_by_the_declared_key(row: dict[str, Any], key: str | None, value: str) -> None:
    assert caller(ask(row), key) == value


@given(st.integers(1, 20), st.lists(st.booleans(), max_size=200))
def test_a_fuse_blows_after_its_failures_in_a_row_and_stays_blown(limit: int, earlier: list[bool]) -> None:
    fuse = Fuse(limit)
    for good in earlier:
        fuse.succeeded() if good else fuse.failed()
    known = fuse.blown
    fresh = sum(fuse.failed() for _ in range(limit))
    assert fuse.blown and fresh == (0 if known else 1), "it is told once"
    fuse.succeeded(10_000)
    assert fuse.blown


@pytest.mark.parametrize(
    ("rate", "blows"),
    [
        pytest.param(0.5, True, id="every other"),
        pytest.param(0.1, True, id="one in ten"),
        pytest.param(0.001, False, id="one in a thousand is left to the statistics"),
    ],
)
def test_a_fuse_minds_the_rate_not_the_age(rate: float, blows: bool) -> None:
    fuse, draw = Fuse(5), random.Random(1)
    for _ in range(100_000):
        fuse.failed() if draw.random() < rate else fuse.succeeded()
    assert fuse.blown is blows and rate * FORGIVEN_BY != 1


def test_a_question_and_its_answer_survive_the_wire() -> None:
    frame = pl.DataFrame({"distance": [1, 2, 3], "carrier": ["AA", None, "ZZ"]})
    read, counts = arm_wire.read_question(arm_wire.question(frame, [1, 2]))
    assert read.equals(frame) and counts == [1, 2]
    told = [np.array([[0.5, 0.25]]), Miss("error", "x" * 1000), np.array([[1.0, 2.0], [3.0, 4.0]])]
    found = arm_wire.read_answer(arm_wire.answer(told), [1, 4, 2], 2)
    assert np.array_equal(found[0], told[0]) and np.array_equal(found[2], told[2])  # type: ignore[arg-type]
    assert found[1] == Miss("error", "x" * arm_wire.WORDS)


def test_numbers_that_are_none_are_a_miss_even_if_the_process_says_otherwise() -> None:
    content = arm_wire.answer([np.array([[np.nan]]), np.array([[0.5]])])
    miss, good = arm_wire.read_answer(content, [1, 1], 1)
    assert isinstance(miss, Miss) and miss.outcome == "not_finite" and isinstance(good, np.ndarray)


HEADS = st.recursive(
    st.none() | st.integers() | st.text(max_size=8) | st.sampled_from(["error", "results"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["results", "x"]), inner, max_size=2),
)


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=64), st.tuples(HEADS, st.binary(max_size=40)).map(lambda pair: told(*pair))))
def test_whatever_a_process_sends_is_an_answer_or_refused(content: bytes) -> None:
    try:
        found = arm_wire.read_answer(content, [1, 1], 1)
    except WireError:
        return
    assert len(found) == 2
    assert all(isinstance(one, Miss) or (one.shape == (1, 1) and np.isfinite(one).all()) for one in found)


def told(head: Any, tail: bytes) -> bytes:
    raw = json.dumps(head).encode()
    return struct.pack("<I", len(raw)) + raw + tail


def test_a_size_without_end_is_refused_before_anything_is_read() -> None:
    with pytest.raises(WireError, match="bytes"):
        arm_wire.size(struct.pack("<Q", 1 << 60))


class _Heard:
    """A challenger and a log that keep what they are handed."""

    def __init__(self) -> None:
        self.frames: list[pl.DataFrame] = []

    def take(self, batch: list[Ask]) -> list[Ask]:
        return batch

    def answered(self, _batch: list[Ask], frame: pl.DataFrame, _moment: float) -> None:
        self.frames.append(frame)

    def log(self, logged: Logged) -> None:
        self.frames.append(logged.frame)


class _Sums:
    """A model whose frames are known."""

    bundle = "b" * 64

    def __init__(self) -> None:
        self.made: list[pl.DataFrame] = []

    def frame(self, rows: list[dict[str, Any]]) -> pl.DataFrame:
        self.made.append(pl.DataFrame(rows))
        return self.made[-1]

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        return np.zeros((frame.height, 1))


def test_no_two_threads_are_handed_one_frame_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads with one polars object can wait for ever: one for its lock, one for Python's."""
    monkeypatch.setattr(batching, "deliver", lambda _batch, _results: None)
    heard, model = _Heard(), _Sums()
    batcher = Batcher(8, Metrics(), heard.log)
    batcher._answer(Placed(model, 1, heard), [ask({"a": 1.0})])  # type: ignore[arg-type]
    objects = [frame._df for frame in (*model.made, *heard.frames)]
    assert len(objects) == 3
    assert len({id(each) for each in objects}) == 3
