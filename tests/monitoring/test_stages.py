"""A stage's evidence counts each request once, in the arm that was to answer it, and grows with the log."""

import datetime as dt
import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logbook import at, label, prediction, toy_bundle, write_labels, write_predictions
from stackyard.monitoring import identities, stages
from stackyard.monitoring.identities import Identities
from stackyard.monitoring.latencies import Latencies
from stackyard.monitoring.logs import Files
from stackyard.monitoring.stage_rows import StageKey, StageRows
from stackyard.monitoring.stages import Stage
from stackyard.monitoring.yardstick import Yardstick
from stackyard.store.objects import Store

START, NOW = at("2030-01-02 08:00"), at("2030-01-05 12:00")
CHAMPION, CHALLENGER = "a" * 64, "b" * 64


class Yard:
    """A store with a champion, and a stage of Release 5."""

    def __init__(self, folder: Path) -> None:
        self.store = Store.open(folder / "store")
        self.yardstick = Yardstick.load(self.store, toy_bundle(self.store, folder), folder / "cache")

    def stage(self, kind: Any = "canary", key: str | None = None) -> Stage:
        return Stage(Files(self.store, "m"), self.yardstick, StageKey(5, kind, CHALLENGER, START, key))

    def log(self, *rows: dict[str, Any]) -> None:
        write_predictions(self.store, "m", rows)

    def labels(self, *rows: dict[str, Any]) -> None:
        write_labels(self.store, "m", rows)


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


def row(request_id: str, arm: str = "champion", outcome: str = "ok", **other: Any) -> dict[str, Any]:
    bundle = CHAMPION if arm == "champion" else CHALLENGER
    given = {"time": START, "bundle": bundle, "release": 5, "distance": 1.0, "carrier": "van", **other}
    made = prediction(request_id, arm=arm, outcome=outcome, **given)
    return made if outcome == "ok" else made | {"outputs": []}


def test_what_the_champion_answers_for_a_failed_challenger_is_no_request_of_its_own(yard: Yard) -> None:
    yard.log(row("own"), row("saved"), row("fine", "canary"), row("saved", "canary", "timeout"))
    found = yard.stage().gather(NOW, 0.1)
    assert (found.champion.requests, dict(found.champion.outcomes)) == (1, {"ok": 1})
    assert (found.challenger.requests, dict(found.challenger.outcomes)) == (2, {"ok": 1, "timeout": 1})
    assert found.assigned == (1, 2)


def test_callers_are_the_units_where_a_key_keeps_them_on_one_arm(yard: Yard) -> None:
    yard.log(row("a", carrier="van"), row("b", carrier="van"), row("c", carrier="bike"), row("e", carrier="train"))
    yard.log(row("d", "canary", carrier="train"), row("e", "canary", "error", carrier="train"))
    assert yard.stage().gather(NOW, 0.1).assigned == (3, 2)
    assert yard.stage(key="carrier").gather(NOW, 0.1).assigned == (2, 1)
    assert yard.stage(key="no_such_input").gather(NOW, 0.1).assigned == (3, 2)


STRANGERS: dict[str, dict[str, Any]] = {
    "earlier-release": {"release": 4},
    "later-release": {"release": 6},
    "another-challenger": {"bundle": "c" * 64},
    "another-kind": {"arm": "shadow"},
}


@pytest.mark.parametrize("name", STRANGERS)
def test_rows_of_anything_but_this_stage_do_not_count(yard: Yard, name: str) -> None:
    yard.log(row("a", "canary") | STRANGERS[name], row("b", "canary"))
    assert yard.stage().gather(NOW, 0.1).challenger.requests == 1


def test_a_request_of_many_rows_or_asked_twice_counts_once_by_its_newest_answer(yard: Yard) -> None:
    second = START + dt.timedelta(seconds=1)
    yard.log(row("a", "canary", "died"), row("a", "canary", "died", row=1))
    yard.log(row("a", "canary", time=second, output=0.7), row("a", "canary", time=second, output=0.8, row=1))
    found = yard.stage().gather(NOW, 0.1)
    assert (found.challenger.requests, dict(found.challenger.outcomes)) == (1, {"ok": 1})
    assert found.challenger.outputs[0].total == 2


def test_slow_answers_are_those_beyond_the_champions_99th_percentile_and_the_margin(yard: Yard) -> None:
    yard.log(*(row(f"a{n}", seconds=0.010 + 0.0001 * n) for n in range(200)))
    yard.log(*(row(f"b{n}", "canary", seconds=seconds) for n, seconds in enumerate([0.02, 0.1, 0.14, 0.5])))
    assert yard.stage().gather(NOW, 0.1).challenger.slow == 2
    assert yard.stage().gather(NOW, 0.2).challenger.slow == 1


def test_a_canary_of_everybody_is_compared_with_the_latency_before_it(yard: Yard) -> None:
    yard.log(*(row(f"a{n}", seconds=0.01, release=4) for n in range(200)))
    yard.log(row("b1", "canary", seconds=0.02), row("b2", "canary", seconds=0.3))
    assert yard.stage().gather(NOW, 0.1).challenger.slow == 1


def test_the_shadows_rows_are_paired_with_the_champions_and_the_newest_labels(yard: Yard) -> None:
    yard.log(*(row(f"r{n}", output=0.1 * n) for n in range(4)))
    yard.log(*(row(f"r{n}", "shadow", output=0.2 * n) for n in range(3)), row("r3", "shadow", "dropped"))
    yard.labels(*(label(f"r{n}", at("2030-01-03 10:00"), n % 2) for n in (0, 1, 3)))
    yard.labels(label("r1", at("2030-01-03 11:00"), 0), label("r0", at("2030-01-03 11:00"), 17))
    labels, champion, challenger = yard.stage("shadow").gather(NOW, 0.1).paired
    found = sorted(zip(labels.tolist(), champion.round(6).tolist(), challenger.round(6).tolist(), strict=True))
    assert found == [(0.0, [0.0], [0.0]), (0.0, [0.1], [0.2])]


def test_each_arm_of_a_canary_has_the_labelled_rows_that_it_alone_answered(yard: Yard) -> None:
    yard.log(row("own", output=0.1), row("saved", output=0.2), row("fine", "canary", output=0.3))
    yard.log(row("saved", "canary", "error"))
    yard.labels(*(label(name, at("2030-01-03 10:00"), 1) for name in ("own", "saved", "fine")))
    found = yard.stage().gather(NOW, 0.1)
    assert found.champion.answers.tolist() == [[0.1]]
    assert found.challenger.answers.tolist() == [[0.3]]


def test_replicas_whose_fuse_blew_are_told_by_their_spools(yard: Yard) -> None:
    frame = pl.DataFrame(
        [row("a", "canary", "fused")], schema_overrides={"outputs": pl.List(pl.Float64), "row": pl.UInt32}
    )
    for name in ("0001-aaaa-000001", "0001-aaaa-000002", "0001-bbbb-000001"):
        frame.with_columns(pl.lit(name).alias("request_id")).write_parquet(folder(yard) / f"{name}-x.parquet")
    assert yard.stage().gather(NOW, 0.1).fused == 2


def folder(yard: Yard) -> Path:
    made = Path(yard.store.url) / "predictions/m/2030-01-02"
    made.mkdir(parents=True, exist_ok=True)
    return made


def test_evidence_grows_with_the_log_and_reads_each_file_once(yard: Yard) -> None:
    stage = yard.stage("shadow")
    assert stage.gather(START, 0.1).challenger.requests == 0
    for day in range(2, 6):
        time = at(f"2030-01-0{day} 09:00")
        yard.log(row(f"r{day}", "shadow", time=time), row(f"r{day}", time=time))
        yard.labels(label(f"r{day}", at(f"2030-01-0{day} 10:00"), 1))
    grown = stage.gather(at("2030-01-03 12:00"), 0.1)
    assert (grown.challenger.requests, len(grown.paired[0]), grown.files) == (2, 2, 2)
    grown = stage.gather(NOW, 0.1)
    assert (grown.challenger.requests, len(grown.paired[0]), grown.files) == (4, 4, 4)
    same(grown, yard.stage("shadow").gather(NOW, 0.1))


@pytest.mark.parametrize("refused", ["predictions", "labels"])
@pytest.mark.parametrize("error", [OSError("reset by peer"), KeyError("gone"), RuntimeError("503")], ids=repr)
def test_a_store_that_fails_fails_the_question_and_loses_no_row(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, error: Exception, refused: str
) -> None:
    for number in range(3):
        yard.log(row(f"r{number}", "shadow"), row(f"r{number}"))
        yard.labels(label(f"r{number}", at("2030-01-03 10:00"), 1))
    (folder(yard) / "no-parquet.parquet").write_bytes(b"PAR1 it is not")
    stage, last = yard.stage("shadow"), max(yard.store.keys(refused))
    read = yard.store.read

    def fails(key: str, **more: Any) -> bytes:
        if key == last:
            raise error
        return read(key, **more)

    monkeypatch.setattr(yard.store, "read", fails)
    for _ in range(2):
        with pytest.raises(type(error)):
            stage.gather(NOW, 0.1)
    monkeypatch.undo()
    found = stage.gather(NOW, 0.1)
    assert (found.challenger.requests, len(found.paired[0]), found.files) == (3, 3, 4)
    same(found, yard.stage("shadow").gather(NOW, 0.1))


def test_nothing_later_than_now_is_known(yard: Yard) -> None:
    yard.log(row("a", "shadow"), row("a"))
    yard.log(row("b", "shadow", time=NOW + dt.timedelta(seconds=1)))
    yard.labels(label("a", NOW + dt.timedelta(seconds=1), 1))
    found = yard.stage("shadow").gather(NOW, 0.1)
    assert (found.challenger.requests, len(found.paired[0])) == (1, 0)
    later = yard.stage("shadow").gather(NOW + dt.timedelta(seconds=1), 0.1)
    assert (later.challenger.requests, len(later.paired[0])) == (2, 1)


def test_many_rows_are_sampled_alike_in_both_arms(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "SAMPLED_ROWS", 100)
    rows = [row(f"r{n}", output=(n % 97) / 97) for n in range(900)]
    yard.log(*rows)
    yard.log(*(one | {"arm": "shadow", "bundle": CHALLENGER} for one in rows))
    yard.labels(*(label(f"r{n}", at("2030-01-03 10:00"), n % 2) for n in range(900)))
    found = yard.stage("shadow").gather(NOW, 0.1)
    assert found.challenger.requests == 900
    assert found.challenger.outputs[0].total == 900
    assert 20 < len(found.paired[0]) <= 100
    assert (found.paired[1] == found.paired[2]).all()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(["shadow", "canary"]))
def test_any_order_of_files_and_any_moments_of_looking_tell_the_same(
    tmp_path_factory: pytest.TempPathFactory, seed: int, kind: str
) -> None:
    draw, found = random.Random(seed), []
    rows = []
    for number in range(14):
        time = START + dt.timedelta(hours=3 * number)
        outcome = draw.choice(["ok", "ok", "error", "dropped"])
        theirs = row(f"r{number}", kind, outcome, time=time, output=draw.random(), seconds=draw.random())
        mine = row(f"r{number}", time=time, output=draw.random(), seconds=draw.random())
        rows.append([mine, theirs] if kind == "shadow" or outcome != "ok" else [draw.choice([mine, theirs])])
    labels = [label(f"r{n}", START + dt.timedelta(hours=3 * n + 5), draw.choice([0, 1])) for n in range(14)]
    for _ in range(2):
        yard = Yard(tmp_path_factory.mktemp("order"))
        stage = yard.stage(kind)
        order = [(pair, truth) for pair, truth in zip(rows, labels, strict=True)]
        draw.shuffle(order)
        for pair, truth in order:
            draw.shuffle(pair)
            for part in [pair] if draw.random() < 0.5 else [[one] for one in pair]:
                yard.log(*part)
            yard.labels(truth)
            if draw.random() < 0.2:
                stage.gather(START + dt.timedelta(hours=draw.randrange(60)), 0.1)
        found.append(stage.gather(NOW, 0.1))
    same(*found)


def same(one: StageRows, two: StageRows) -> None:
    for first, second in ((one.champion, two.champion), (one.challenger, two.challenger)):
        assert (first.requests, dict(first.outcomes), first.slow) == (
            second.requests,
            dict(second.outcomes),
            second.slow,
        )
        assert [s.table.tolist() for s in first.outputs] == [s.table.tolist() for s in second.outputs]
        assert first.labels.tolist() == second.labels.tolist()
        assert first.answers.tolist() == second.answers.tolist()
    assert (one.assigned, one.fused) == (two.assigned, two.fused)
    assert all(first.tolist() == second.tolist() for first, second in zip(one.paired, two.paired, strict=True))


@given(parts=st.lists(st.lists(st.integers(0, 60), max_size=30), max_size=12))
def test_identities_are_a_set(parts: list[list[int]]) -> None:
    ids, known = Identities(), set()
    for part in parts:
        values = np.array(part, dtype=np.uint64)
        assert ids.known(values).tolist() == [value in known for value in part]
        ids.add(values)
        known |= set(part)
        assert len(ids) == len(known)


def test_identities_beyond_the_most_count_as_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "MOST", 3)
    ids = Identities()
    ids.add(np.arange(3, dtype=np.uint64))
    ids.add(np.arange(2, 5, dtype=np.uint64))
    assert len(ids) == 5
    assert not ids.known(np.array([4], dtype=np.uint64)).any()


def test_quantiles_of_latencies_are_right_to_one_per_cent() -> None:
    values = np.random.default_rng(0).lognormal(-4, 1, 10_000)
    found = Latencies()
    for part in np.array_split(values, 7):
        found.add(pl.Series(part))
    assert found.quantile(0.99) == pytest.approx(np.quantile(values, 0.99), rel=0.011)
    assert found.above(0.05) == pytest.approx((values > 0.05).sum(), rel=0.05)
    assert Latencies().quantile(0.99) is None
