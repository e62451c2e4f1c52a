"""A training that was killed goes on where it was, and ends as one that never was."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackyard.store import trainings
from stackyard.training import resumable
from stackyard.training.practice import Practice, practise
from stackyard.training.resumable import Cursor, Minibatches, Resumable
from stackyard.training.states import Corrupt, State, decode, digest, encode

STEPS = 60
KILLED = """
import os, signal, sys
from stackyard.training import practice, resumable
wanted, fatal = practice.Practice(sys.argv[1], int(sys.argv[2]), every=7), int(sys.argv[3])
steps, at = 0, resumable.Resumable.at
def counted(self, step):
    global steps
    steps += 1
    if steps == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    at(self, step)
resumable.Resumable.at = counted
print(practice.practise(wanted))
"""


@pytest.mark.parametrize("seed", range(3))
def test_a_training_killed_at_random_steps_ends_with_the_digest_of_one_never_interrupted(tmp_path: Path, seed: int):
    whole = practise(Practice(str(tmp_path / "whole"), STEPS, every=7))
    fate, deaths, said = random.Random(seed), 0, ""
    while not said:
        fatal = fate.randint(3, 25) if deaths < 4 else 10_000
        command = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(STEPS), str(fatal)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode in (0, -9), done.stderr
        deaths, said = deaths + (done.returncode != 0), done.stdout.strip()
    assert deaths >= 2
    assert said == whole


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda data: data[: len(data) // 2], id="cut-short"),
        pytest.param(lambda data: data[:-1] + bytes([data[-1] ^ 1]), id="a-flipped-bit"),
        pytest.param(lambda data: data.replace(b'"step"', b'"pets"', 1), id="another-head"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: encode(State(1)).replace(b"\n", b"", 1), id="no-digest"),
    ],
)
def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(
    tmp_path: Path, harm: Any, capsys: pytest.CaptureFixture[str]
):
    whole = practise(Practice(str(tmp_path / "whole"), STEPS, every=10))
    practise(Practice(str(tmp_path / "harmed"), 40, every=10))
    newest = Resumable(tmp_path / "harmed", "practice").checkpoints()[-1]
    newest.write_bytes(harm(newest.read_bytes()))
    training = Resumable(tmp_path / "harmed", "practice")
    found = training.newest()
    assert found is not None and found.step == 30
    assert len(training.warnings) == 1 and newest.name in training.warnings[0]
    assert newest.name in capsys.readouterr().err
    assert practise(Practice(str(tmp_path / "harmed"), STEPS, every=10)) == whole


GENERATORS = {
    "pcg": np.random.PCG64,
    "dxsm": np.random.PCG64DXSM,
    "mersenne": np.random.MT19937,
    "philox": np.random.Philox,
    "sfc": np.random.SFC64,
}


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_goes_on_where_it_stood(name: str):
    first, second = (np.random.Generator(GENERATORS[name](seed)) for seed in (1, 2))
    first.integers(10, size=3, dtype=np.uint32)  # half a word is left over
    state = decode(encode(State(3).remember(it=first)))
    state.recall(it=second)
    assert (
        first.integers(1 << 30, size=5, dtype=np.uint32).tolist()
        == second.integers(1 << 30, size=5, dtype=np.uint32).tolist()
    )


def test_pythons_own_generator_goes_on_where_it_stood_its_spare_gauss_included():
    first, second = random.Random(1), random.Random(2)
    first.gauss()
    decode(encode(State(3).remember(it=first))).recall(it=second)
    assert [first.gauss() for _ in range(3)] == [second.gauss() for _ in range(3)]


def test_a_generator_of_another_kind_or_name_is_refused():
    state = State(3).remember(it=random.Random(1), its=np.random.default_rng(1))
    for wrong in ({"it": np.random.default_rng()}, {"its": random.Random()}, {"other": random.Random()},
                  {"its": np.random.Generator(np.random.MT19937())}):  # fmt: skip
        with pytest.raises(Corrupt):
            state.recall(**wrong)


def test_nothing_that_could_run_is_written_or_read(tmp_path: Path):
    with pytest.raises(ValueError, match="Object arrays"):
        encode(State(1, {"bad": np.array([object()])}))
    buffer = tmp_path / "bad.npy"
    np.save(buffer, np.array([{"a": 1}]), allow_pickle=True)
    good = encode(State(1, blobs={"x": buffer.read_bytes()}))
    rest = good.partition(b"\n")[2].replace(b'"bytes"', b'"array"')
    with pytest.raises(ValueError, match=r"[Pp]ickle"):
        decode(hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)


def test_a_state_comes_back_as_it_was():
    state = State(
        9, {"a": np.arange(6.0).reshape(2, 3), "b": np.array(3, dtype=np.int8)}, {"ubj": b"\n\0x"}, {"c": [1]}
    )
    found = decode(encode(state))
    assert (found.step, found.blobs, found.facts) == (9, state.blobs, state.facts)
    assert digest(found.arrays) == digest(state.arrays)


def test_the_last_few_stay_and_others_names_are_left_alone(tmp_path: Path):
    (tmp_path / "trees-other-000000000001.checkpoint").write_bytes(b"another training's")
    with Resumable(tmp_path, "trees", keep=2) as training:
        for step in (5, 10, 15):
            training.save(State(step))
        assert [decode(path.read_bytes()).step for path in training.checkpoints()] == [10, 15]
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("keep", [1, 3])
def test_a_fresh_checkpoint_stays_where_all_later_ones_are_damaged(tmp_path: Path, keep: int):
    with Resumable(tmp_path, "trees", keep=keep) as training:
        for step in (100, 120, 140)[-keep:]:
            training.save(State(step)).write_bytes(b"damaged")
    with Resumable(tmp_path, "trees", keep=keep) as training:
        assert training.newest() is None
        for step in (20, 40, 60, 80):
            training.save(State(step))
    with Resumable(tmp_path, "trees", keep=keep) as training:
        found = training.newest()
        assert found is not None and found.step == 80
        assert len(training.checkpoints()) == 2 * keep, "those that are kept, and the damaged ones"


def test_a_name_may_hold_what_patterns_hold_and_begin_anothers(tmp_path: Path):
    others = tmp_path / ".lr[0.1]-two-77.part"
    others.write_bytes(b"another training writes it")
    with Resumable(tmp_path, "lr[0.1]", keep=1) as training:
        training.save(State(1))
        training.save(State(2))
        found = training.newest()
        assert found is not None and found.step == 2
        assert len(training.checkpoints()) == 1
    assert others.exists()


def test_minibatches_go_through_all_rows_and_on_from_any_cursor():
    batches, seen, cursor = Minibatches(10, 4, seed=1), [], Cursor()
    cursors = []
    for _ in range(6):
        cursors.append(cursor)
        found, cursor = batches.after(cursor)
        seen.append(found.tolist())
    assert sorted(itertools.chain(*seen[:3])) == sorted(itertools.chain(*seen[3:])) == list(range(10))
    assert seen[0] != seen[3]
    fresh = Minibatches(10, 4, seed=1)
    assert [fresh.after(each)[0].tolist() for each in reversed(cursors)] == seen[::-1]


def test_a_request_is_answered_once_by_the_checkpoint_that_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    beside = tmp_path / "trainings"
    monkeypatch.setattr(resumable, "_HOLD", 0.0)
    with Resumable(tmp_path / "w", "trees", beside=beside) as training:
        assert not training.asked()
        wanted = trainings.request(beside)
        assert training.asked()
        training.save(State(5))
        assert not training.asked()
        (_, told), = trainings.announced(beside)  # fmt: skip
        assert (told.answered, told.saved, told.name, told.pid) == (wanted, 5, "trees", os.getpid())
        trainings.request(beside)
        assert training.asked()
        trainings.withdraw(beside)
        assert not training.asked()
    assert trainings.announced(beside) == []


def test_who_answered_waits_until_nobody_asks_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    beside, looks = tmp_path / "trainings", list[float]()

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            trainings.withdraw(beside)

    monkeypatch.setattr(resumable.time, "sleep", sleep)
    with Resumable(tmp_path / "w", beside=beside) as training:
        training.save(State(1))
        assert looks == []
        trainings.request(beside)
        training.save(State(2))
        assert len(looks) == 3


def test_the_dead_are_not_announced_and_strangers_of_another_machine_are_while_they_speak(tmp_path: Path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine = trainings.here("mine", 0)
    table = {
        "1-mine": mine,
        "2-dead": trainings.Announced("dead", ended.pid, 1, mine.where, 0, 0, 0),
        "3-reused": trainings.Announced("reused", os.getpid(), mine.start - 1, mine.where, 0, 0, 0),
        "4-far": trainings.Announced("far", 1, 1, "another machine", 0, 0, 0),
        "5-silent": trainings.Announced("silent", 1, 1, "another machine", 0, 0, 0),
    }
    for name, each in table.items():
        trainings.announce(tmp_path / f"{name}.json", each)
    os.utime(tmp_path / "5-silent.json", (0, 0))
    (tmp_path / "6-odd.json").write_text(json.dumps({"version": 2}))
    assert [each.name for _, each in trainings.announced(tmp_path)] == ["mine", "far"]
    assert not (tmp_path / "2-dead.json").exists()


def test_outside_of_a_leased_cluster_nobody_asks_and_nothing_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in (trainings.VARIABLE, trainings.WORKSPACE):
        monkeypatch.delenv(name, raising=False)
    with Resumable(tmp_path / "w") as training:
        training.at(1)
        training.save(State(1))
        assert not training.asked()
    monkeypatch.setenv(trainings.WORKSPACE, "/a/workspace")
    assert trainings.found_by(os.environ) == Path("/a/trainings")
    monkeypatch.setenv(trainings.VARIABLE, "/b")
    assert trainings.found_by(os.environ) == Path("/b")
