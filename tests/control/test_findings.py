"""What the worker finds out in a small store: days, verdicts, gates and stages, and nothing later than now."""

import datetime as dt
import io
import json
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from logbook import COLUMNS, at, label, prediction, toy_bundle, toy_rows, write_labels, write_predictions
from stackyard.control.findings import Findings, UnknownQuestionError
from stackyard.control.worker import Worker, WorkerSettings
from stackyard.store import layout, releases
from stackyard.store.documents import canonical, public_text
from stackyard.store.keys import ensure_signing_key
from stackyard.store.objects import Store, sha256

DAYS = 6
ROWS = 150
UNTIL = "2030-01-08"
NOW = "2030-01-08T06:00:00+00:00"


class Yard:
    """A champion with six days of predictions, 2030-01-02 to 07, labels a day later, and a challenger."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, Store.open(folder / "store")
        self.key = ensure_signing_key(folder / "keys" / "release")
        self.champion = toy_bundle(self.store, folder, **MADE)
        self.challenger = toy_bundle(self.store, folder, seed=1, **MADE)
        self.settings = WorkerSettings(
            model="m",
            store=str(folder / "store"),
            project=PROJECT,
            cache=folder / "cache",
            trusted=(public_text(self.key.public_key()),),
        )

    def live(self, days: int = DAYS, flipped: tuple[int, ...] = (), **head: Any) -> None:
        for day in range(days):
            begin = at("2030-01-02 00:00") + dt.timedelta(days=day)
            rows = list(toy_rows(ROWS, seed=day).iter_rows(named=True))
            times = [begin + dt.timedelta(minutes=5 * number) for number in range(ROWS)]
            asked = [
                prediction(
                    f"d{day}-{number}",
                    when,
                    row["output"],
                    **{
                        "bundle": self.champion,
                        "distance": row["distance"],
                        "carrier": row["carrier"],
                        "input_time": when,
                        **head,
                    },
                )
                for number, (row, when) in enumerate(zip(rows, times, strict=True))
            ]
            write_predictions(self.store, "m", asked)
            known = [1 - row["label"] if day in flipped else row["label"] for row in rows]
            told = [label(f"d{day}-{number}", begin + DAY, value) for number, value in enumerate(known)]
            write_labels(self.store, "m", told)

    def findings(self) -> Findings:
        return Findings.of(self.settings)

    def release(self, number: int, **facts: Any) -> None:
        made = releases.Release(
            model="m",
            number=number,
            champion=self.champion,
            reason="test",
            created="2030-01-02T00:00:00+00:00",
            **facts,
        )
        assert releases.publish(self.store, made, self.key)


DAY = dt.timedelta(days=1)
MADE = {"code": "c" * 64, "parameters": {"max_depth": 3}}
PROJECT: dict[str, Any] = {
    "name": "m",
    "task": {"type": "binary", "label": "late"},
    "data": {
        "source": {"python": "toy:read"},
        "time": "time",
        "window": {"start": "2029-01-01", "end": "2030-01-01"},
        "columns": COLUMNS,
    },
    "features": {"function": "toy:build"},
    "monitoring": {"window": 172800.0, "rows": 100, "slices": ["carrier"], "drift": {"rows": 50}},
    "rollout": {"stages": [{"kind": "shadow", "requests": 50, "time": 3600.0, "deadline": 777600.0}]},
}


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


def asked(found: Findings, champion: str, **other: Any) -> dict[str, Any]:
    return found.answer("verdicts", {"until": UNTIL, "champion": champion, "now": NOW, **other})


def test_verdicts_say_how_far_labels_are_how_many_rows_are_new_and_what_each_part_says(yard: Yard) -> None:
    yard.live()
    said = asked(yard.findings(), yard.champion)
    json.dumps(said)
    assert said["labelled_until"] == "2030-01-07"
    assert said["new_rows"] == 5 * ROWS
    assert asked(yard.findings(), yard.champion, data_end="2030-01-05")["new_rows"] == 2 * ROWS
    assert said["champion_data_end"] == "2030-01-01"
    assert said["quarantined"] == said["released"] == []
    assert (said["metric_alarm"], said["drift_alarm"], said["shift_since"]) == (None, None, None)
    assert {name: said[name]["state"] for name in ("drift", "performance", "labels")} == dict.fromkeys(
        ("drift", "performance", "labels"), "ok"
    )
    assert said["troubles"] == {}


def test_a_day_with_flipped_labels_is_quarantined_until_a_person_lets_it_go(yard: Yard) -> None:
    yard.live(flipped=(2,))
    found = yard.findings()
    said = asked(found, yard.champion)
    assert said["quarantined"] == ["2030-01-04"]
    assert [day["day"] for day in said["quality"]] == ["2030-01-04"]
    assert said["new_rows"] == 4 * ROWS
    let_go = asked(found, yard.champion, released={"2030-01-04": NOW})
    assert (let_go["quarantined"], let_go["released"], let_go["new_rows"]) == ([], ["2030-01-04"], 5 * ROWS)
    days = found.answer("days", {"days": ["2030-01-04", "2030-01-05"], "champion": yard.champion, "now": NOW})["days"]
    assert [day["quarantined"] for day in days.values()] == [True, False]
    assert days["2030-01-04"]["summaries"][0]["labelled"] == ROWS


def test_a_quarantine_that_was_settled_stands_under_a_later_champion(yard: Yard) -> None:
    yard.live(flipped=(2,))
    late = {"until": "2030-02-01", "now": "2030-02-01T00:00:00+00:00"}
    assert "2030-01-04" in asked(yard.findings(), yard.champion, **late)["quarantined"]
    settled = [key for key in yard.store.keys("evidence/m") if key.endswith("quality.json")]
    assert "evidence/m/2030-01-04/quality.json" in settled
    assert "2030-01-04" in asked(yard.findings(), yard.challenger, **late)["quarantined"]


def test_no_verdict_knows_a_label_that_comes_after_now(yard: Yard) -> None:
    """The no-look-ahead test of verdicts and of the rows a retraining may have."""
    yard.live()
    found, told = yard.findings(), []
    for moment in ("2030-01-08 06:00", "2030-01-05 06:00", "2030-01-08 06:00", "2030-01-05 06:00"):
        now = at(moment)
        said = asked(found, yard.champion, until=now.date().isoformat(), now=now.isoformat())
        assert dt.date.fromisoformat(said["labelled_until"]) <= (now - DAY).date()
        told.append(said)
    assert told[0] == told[2]
    assert told[1] == told[3]
    other = Yard(yard.folder / "other")
    other.live(days=3)
    fresh = asked(other.findings(), other.champion, until="2030-01-05", now=at("2030-01-05 06:00").isoformat())
    assert (fresh["labelled_until"], fresh["new_rows"]) == (told[1]["labelled_until"], told[1]["new_rows"])
    assert fresh["performance"] == told[1]["performance"]


def test_before_any_prediction_there_is_not_enough_data(yard: Yard) -> None:
    said = asked(yard.findings(), yard.champion)
    assert said["performance"]["state"] == said["drift"]["state"] == "not_enough_data"
    assert (said["labelled_until"], said["new_rows"]) == ("2030-01-07", 0)


def test_a_stage_is_judged_from_the_rows_of_its_release(yard: Yard) -> None:
    yard.release(1)
    arm = releases.Arm(bundle=yard.challenger, kind="shadow", share=1.0)
    yard.release(2, arms=(arm,), stage="shadow", step=0, candidate="run-2")
    found = yard.findings()
    question = {"release": 2, "step": 0, "now": NOW}
    assert found.answer("stage", question)["action"] == "hold"
    yard.live(release=2)
    yard.live(release=2, arm="shadow", bundle=yard.challenger)
    said = found.answer("stage", question)
    json.dumps(said)
    assert said["figures"]["challenger"]["requests"] == DAYS * ROWS
    assert said["figures"]["paired"] == DAYS * ROWS
    assert (said["action"], {check["name"] for check in said["checks"]} >= {"metric", "errors"}) == ("advance", True)
    assert yard.findings().answer("stage", question) == said


ROUTINE: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "one-recipe": ({"recipe": "a"}, {"recipe": "a"}, True),
    "two-recipes": ({"recipe": "a", **MADE}, {"recipe": "b", **MADE}, False),
    "older-lineage-made-alike": (MADE, {"recipe": "a", **MADE}, True),
    "older-lineage-other-code": (MADE, {**MADE, "code": "d" * 64}, False),
    "nothing-known-of-either": ({}, {}, False),
    "nothing-known-of-one": (MADE, {}, False),
    "code-known-alone": ({"code": "c" * 64}, {"code": "c" * 64}, False),
    "parameters-known-to-be-none": ({**MADE, "parameters": {}}, {**MADE, "parameters": {}}, True),
}


@pytest.mark.parametrize("name", ROUTINE)
def test_a_challenger_is_routine_only_when_both_are_known_to_be_of_one_recipe(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    champion, challenger, routine = ROUTINE[name]
    monkeypatch.setattr(Findings, "_lineage", lambda _, bundle: champion if bundle == "champion" else challenger)
    assert yard.findings()._routine("champion", "challenger") is routine


UNKNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "kind": ("weather", {}),
    "run": ("gate", {"run_id": "no-such-run"}),
    "release": ("stage", {"release": 9, "step": 0, "now": NOW}),
    "no-challenger": ("stage", {"release": 1, "step": 0, "now": NOW}),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_there_is_told(yard: Yard, name: str) -> None:
    yard.release(1)
    with pytest.raises(UnknownQuestionError):
        yard.findings().answer(*UNKNOWN[name])


def held_out(yard: Yard, run_id: str) -> None:
    rows = toy_rows(600, seed=3)
    frame = pl.DataFrame(
        {
            "time": [at("2030-01-02 00:00") + dt.timedelta(minutes=n) for n in range(600)],
            "label": rows["label"],
            "candidate": rows.select(pl.concat_list("output"))["output"],
            "champion": rows.select(pl.concat_list(pl.col("output") * 0.5 + 0.2).alias("output"))["output"],
        }
    )
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    raw = buffer.getvalue()
    candidate = {"champion_data_end": "2030-01-01", "size": 100, "seconds_per_row": 0.001, "parity": True}
    candidate |= {"backtest": [], "kpi": {"candidate": None, "champion": None}, "refit": {}, "champion_problem": None}
    result = {
        "run_id": run_id,
        "trial": "t" * 64,
        "bundle": "b" * 64,
        "champion": yard.champion,
        "candidate": candidate,
    }
    yard.store.create(layout.run(run_id, "holdout.parquet"), raw)
    yard.store.create(layout.run(run_id, "result.json"), canonical(result | {"holdout": {"sha256": sha256(raw)}}))


def test_a_gate_says_the_same_of_the_same_run_again(yard: Yard) -> None:
    held_out(yard, "run-2")
    first, second = (yard.findings().answer("gate", {"run_id": "run-2", "released": {}}) for _ in range(2))
    assert canonical(first) == canonical(second)
    assert first["kind"] == "gate-report"
    assert {check["name"] for check in first["checks"]} >= {"rows", "margin", "parity"}


def test_held_out_rows_that_were_changed_since_are_refused(yard: Yard) -> None:
    held_out(yard, "run-2")
    yard.store.write(layout.run("run-2", "holdout.parquet"), b"PAR1")
    with pytest.raises(UnknownQuestionError, match="not those that it wrote"):
        yard.findings().answer("gate", {"run_id": "run-2"})


def test_the_real_worker_answers_though_user_code_prints(yard: Yard) -> None:
    yard.live(days=2)
    worker = Worker(yard.settings, yard.folder / "worker")
    try:
        tickets = [
            worker.ask("verdicts", until=UNTIL, champion=yard.champion, now=NOW),
            worker.ask("verdicts", until=UNTIL, champion="0" * 64, now=NOW),
        ]
        found = _answers(worker, 2)
    finally:
        worker.stop()
    assert found[tickets[0]]["result"]["new_rows"] == 2 * ROWS
    assert "BundleError" in found[tickets[1]]["error"]
    assert "features are made" in (yard.folder / "worker" / "worker.log").read_text()


def test_features_that_eat_memory_end_the_real_workers_child_and_a_stage_is_answered_all_the_same(yard: Yard) -> None:
    yard.live(days=1)
    yard.release(1)
    yard.release(2, arms=(releases.Arm(bundle=yard.challenger, kind="shadow", share=1.0),), stage="shadow", step=0)
    greedy = toy_bundle(yard.store, yard.folder, features="greedy")
    worker = Worker(yard.settings.model_copy(update={"memory": 1 << 30}), yard.folder / "worker")
    try:
        eats = worker.ask("verdicts", until=UNTIL, champion=greedy, now=NOW)
        stage = worker.ask("stage", release=2, step=0, now=NOW)
        found = _answers(worker, 2)
    finally:
        worker.stop()
    assert "MiB of memory and may take 1024" in found[eats]["error"]
    assert found[stage]["result"]["action"] == "hold"


def _answers(worker: Worker, count: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    deadline = time.monotonic() + 120
    while len(found) < count:
        found.update(worker.poll())
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found
