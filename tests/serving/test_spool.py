"""The prediction log: what was answered is in the store once, whatever dies."""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stackyard.serving import rolling, spool
from stackyard.serving.batching import Logged
from stackyard.serving.metrics import Metrics
from stackyard.serving.spool import PredictionLog
from stackyard.serving.timekeeping import Timekeeper
from stackyard.store.objects import Store

NOON = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC).timestamp()


HEAD = ["request_id", "row", "time", "bundle", "release", "arm", "outcome", "seconds"]


def logged(name: str, rows: int = 2, *, bundle: str = "b" * 64, time: float = NOON) -> Logged:
    frame = pl.DataFrame({"distance": list(range(rows)), "carrier": ["AA"] * rows})
    return Logged(bundle, time, [(name, row) for row in range(rows)], frame, np.full((rows, 1), 0.25))


class Log(PredictionLog):
    """A log whose thread the test plays itself."""

    def flush(self) -> None:
        self._flush()

    def roll(self) -> None:
        self._roll()

    def recover(self) -> None:
        self._recover()

    def die(self) -> Path:
        """As kill -9: the lock is gone, the files stay."""
        self._spool._lock.close()
        return self._spool.path


def open_log(tmp_path: Path, *, away: bool = False) -> Log:
    store = Store.open(tmp_path / "store")
    return Log("delays", tmp_path / "spool", lambda: None if away else store, Metrics())


def stored(tmp_path: Path) -> pl.DataFrame:
    store = Store.open(tmp_path / "store")
    found = [pl.read_parquet(store.read(key)) for key in store.keys("predictions")]
    return pl.concat(found, how="diagonal") if found else pl.DataFrame()


def lost(log: Log) -> float:
    return log.metrics.registry.get_sample_value("stackyard_prediction_log_lost_rows_total") or 0.0


def test_rows_end_in_the_store_with_their_inputs_and_outputs(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for name in ("first", "second"):
        log.put(logged(name))
        log.flush()
    log.roll()
    found = stored(tmp_path)
    assert found["request_id"].to_list() == ["first", "first", "second", "second"]
    assert found.columns == [*HEAD, "distance", "carrier", "outputs"]
    assert found.select(HEAD[4:]).unique().rows() == [(0, "champion", "ok", None)]
    assert found["outputs"].to_list() == [[0.25]] * 4 and found["time"][0].timestamp() == NOON
    assert not list((tmp_path / "spool").glob("*/*.blocks"))


def test_each_day_and_bundle_has_its_own_file(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.put(logged("today"))
    log.put(logged("tomorrow", time=NOON + 86_400))
    log.put(logged("other", bundle="c" * 64))
    log.flush()
    log.roll()
    keys = list(Store.open(tmp_path / "store").keys("predictions"))
    assert [key.split("/")[2] for key in keys] == ["2026-05-01", "2026-05-01", "2026-05-02"]


def test_what_a_dead_replica_left_is_rolled_by_another_and_a_living_one_is_left_alone(tmp_path: Path) -> None:
    dead, living, third = (open_log(tmp_path) for _ in range(3))
    for log, name in ((dead, "dead"), (living, "living")):
        log.put(logged(name))
        log.flush()
    left = dead.die()
    third.recover()
    assert set(stored(tmp_path)["request_id"]) == {"dead"}
    assert not left.exists()
    living.roll()
    assert set(stored(tmp_path)["request_id"]) == {"dead", "living"}


@pytest.mark.parametrize("cut", [pytest.param(1, id="one byte"), pytest.param(300, id="half a block")])
def test_a_block_cut_short_by_a_kill_loses_itself_only(tmp_path: Path, cut: int) -> None:
    log = open_log(tmp_path)
    for name in ("whole", "torn"):
        log.put(logged(name))
        log.flush()
    segment = next(log.die().glob("*.open"))
    segment.write_bytes(segment.read_bytes()[:-cut])
    open_log(tmp_path).recover()
    assert set(stored(tmp_path)["request_id"]) == {"whole"}


def odd_head() -> pl.DataFrame:
    return pl.DataFrame({"request_id": ["odd"], "row": [0]})


def odd_type() -> pl.DataFrame:
    """Of the same file as the rows around it, but its `row` is a list."""
    rows = {"request_id": ["odd"], "row": [[0]], "time": [dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)]}
    return pl.DataFrame(rows | {"bundle": ["b" * 64], "arm": ["champion"]})


POISONS: dict[str, tuple[Callable[[], pl.DataFrame] | bytes, set[str]]] = {
    "no-arrow": (b"ARROW1 it is not", {"before", "beside", "behind"}),
    "nothing": (b"", {"before", "beside", "behind"}),
    "columns-missing": (odd_head, {"before", "beside", "behind"}),
    "another-type": (odd_type, {"before", "behind"}),
}


@pytest.mark.parametrize("dies", [False, True], ids=["living", "dead"])
@pytest.mark.parametrize("name", POISONS)
def test_a_segment_that_cannot_be_read_whole_is_set_aside_and_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, dies: bool
) -> None:
    poison, expected = POISONS[name]
    log = open_log(tmp_path)
    for segment in ("before", "beside", "behind"):
        log.put(logged(segment))
        log.flush()
        if segment == "beside":
            if isinstance(poison, bytes):
                log._spool._append(rolling.HEAD.pack(len(poison), zlib.crc32(poison)) + poison, sync=False)
            else:
                log._spool.append(poison())
        log._spool.seal()
    found = next(path for path in log._spool.path.iterdir() if path.stem == "000002").read_bytes()
    store = Store.open(tmp_path / "store")
    if dies:
        log.die()
        log = open_log(tmp_path)
        log.recover()
    else:
        log.roll()
    assert set(stored(tmp_path)["request_id"]) == expected
    (aside,) = (tmp_path / "spool" / rolling.ASIDE_FOLDER).iterdir()
    assert aside.read_bytes() == found
    assert capsys.readouterr().out.count("was set aside") == 1
    assert log.metrics.registry.get_sample_value("stackyard_log_segments_set_aside_total") == 1
    for _ in range(2):
        log.roll()
        log.recover()
    assert not log._due() and capsys.readouterr().out == "" and len(list(store.keys("predictions"))) == len(expected)


def test_what_may_pass_holds_a_segment_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path)
    log.put(logged("kept"))
    log.flush()
    monkeypatch.setattr(pl, "read_ipc_stream", lambda _: (_ for _ in ()).throw(OSError(24, "too many open files")))
    with pytest.raises(OSError, match="too many"):
        log.roll()
    monkeypatch.undo()
    log.roll()
    assert set(stored(tmp_path)["request_id"]) == {"kept"}


def test_few_segments_are_kept_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rolling, "ASIDE_SEGMENTS", 2)
    log = open_log(tmp_path)
    for _ in range(4):
        log._spool.append(odd_head())
        log._spool.seal()
    log.roll()
    left = sorted((tmp_path / "spool" / rolling.ASIDE_FOLDER).iterdir())
    assert [path.stem[-6:] for path in left] == ["000003", "000004"]


def test_rolling_twice_stores_once(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.put(logged("only"))
    log.flush()
    path = log.die()
    segment = next(path.glob("*.open"))
    data, store = segment.read_bytes(), Store.open(tmp_path / "store")
    spool.roll(path, "delays", store)
    segment.write_bytes(data)  # killed between the write and the removal
    spool.roll(path, "delays", store)
    assert stored(tmp_path).height == 2


def test_a_store_that_is_away_keeps_rows_on_disk(tmp_path: Path) -> None:
    log = open_log(tmp_path, away=True)
    log.put(logged("kept"))
    log.flush()
    log.roll()
    assert stored(tmp_path).is_empty() and lost(log) == 0
    log.die()
    open_log(tmp_path).recover()
    assert set(stored(tmp_path)["request_id"]) == {"kept"}


def test_rows_beyond_memory_and_disk_are_counted_as_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path)
    monkeypatch.setattr(spool, "MEMORY_ROWS", 3)
    log.put(logged("fits"))
    log.put(logged("does not"))
    assert lost(log) == 2
    monkeypatch.setattr(spool, "DISK_BYTES", -1)
    log.flush()
    assert lost(log) == 4


def test_the_thread_writes_and_stops_with_everything_stored(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.start()
    log.put(logged("last"))
    log.stop()
    assert set(stored(tmp_path)["request_id"]) == {"last"}


def test_an_input_called_as_a_column_of_the_log_keeps_both(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    frame = pl.DataFrame({"time": ["noon"], "outputs": [1]})
    log.put(Logged("b" * 64, NOON, [("r", 0)], frame, np.zeros((1, 1))))
    log.flush()
    log.roll()
    assert stored(tmp_path).select("input_time", "input_outputs").row(0) == ("noon", 1)


def test_what_an_arm_did_lies_beside_the_champions_rows(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.put(logged("answered"))
    frame = pl.DataFrame({"distance": [1], "carrier": ["AA"]})
    for outcome, outputs in (("ok", np.full((1, 1), 0.75)), ("timeout", None)):
        log.put(Logged("b" * 64, NOON, [(outcome, 0)], frame, outputs, 7, "canary", outcome, 0.25))
    log.flush()
    log.roll()
    found = stored(tmp_path).filter(arm="canary").sort("outcome")
    assert found.select("release", "outcome", "seconds").rows() == [(7, "ok", 0.25), (7, "timeout", 0.25)]
    assert found["outputs"].to_list() == [[0.75], []]
    assert dict(found.schema)["outputs"] == pl.List(pl.Float64)
    assert len(list(Store.open(tmp_path / "store").keys("predictions"))) == 2


def test_a_spool_of_an_older_version_is_rolled_as_it_is(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log._spool.append(
        pl.DataFrame(
            {"request_id": ["old"], "row": [0], "time": [dt.datetime(2026, 5, 1, tzinfo=dt.UTC)], "bundle": ["b" * 64]}
        )
    )
    log.die()
    open_log(tmp_path).recover()
    assert stored(tmp_path)["request_id"].to_list() == ["old"]


def test_a_new_day_of_the_stacks_clock_rolls_and_so_do_two_seconds_beside_an_arm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, real = [NOON], [1000.0]
    log = open_log(tmp_path)
    log.now = lambda: clock[0]
    assert not log._due() and not log._due()
    monkeypatch.setattr("stackyard.serving.segments.time.monotonic", lambda: real[0])
    log.put(logged("first"))
    log.flush()
    assert not log._due()
    clock[0] += 86_400
    real[0] += 0.1
    assert log._due() and not log._due()
    real[0] += spool.ARMS_ROLL_SECONDS + 0.1
    assert not log._due()
    log.roll_seconds = spool.ARMS_ROLL_SECONDS
    assert log._due()


def test_a_clock_that_cannot_be_read_stands_still(tmp_path: Path) -> None:
    path = tmp_path / "clock"
    now = Timekeeper(path)
    assert now() == pytest.approx(Timekeeper(None)(), abs=60), "nothing is known yet"
    for content, expected in (
        ("2013-03-01T00:00:00+00:00", 1362096000.0),
        ("soon", 1362096000.0),
        (None, 1362096000.0),
    ):
        path.unlink() if content is None else path.write_text(content)
        assert now() == expected
