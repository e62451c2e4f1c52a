"""A retraining, from intent to what the gates are shown; boosting happens in this process instead of on Ray."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from stackyard.control.gates import judge
from stackyard.control.proof import CandidateFacts, HoldoutTable
from stackyard.data import snapshots
from stackyard.spec import plain
from stackyard.spec.models import ProjectSpec
from stackyard.store import layout
from stackyard.store.objects import Store
from stackyard.training import fit
from stackyard.training import intent as intents
from stackyard.training.boost import Rows, boost
from stackyard.training.checkpoints import Checkpoint
from stackyard.training.intent import Intent
from stackyard.training.job import Run

TOY = Path(__file__).parent / "toy"
DAY = 86_400
HALF = {"start": "2030-01-01", "end": "2030-02-10"}
WHOLE = {"start": "2030-01-01", "end": "2030-03-03"}
DAYS_OF_JANUARY = {"start": "2030-01-01", "end": "2030-02-01"}
JANUARY = [f"2030-01-{day:02d}" for day in range(1, 32)]
Result = dict[str, Any]


class LocalRun(Run):
    """A run whose trees grow in this process."""

    def _fit(self, job: fit.Job, matrices: fit.Matrices) -> tuple[Checkpoint, Checkpoint | None]:
        begin, end = job.cut
        watched = (matrices.trial[begin:end], matrices.labels[begin:end]) if end > begin else None
        learnt = (matrices.trial[:begin], matrices.labels[:begin])
        trial = boost(job.stages[0], Rows(learnt, watched), None, lambda _: None)
        rounds, rows = fit.chosen_rounds(job.stages[0], trial), Rows((matrices.final, matrices.labels), None)
        final = [boost(replace(stage, rounds=rounds), rows, None, lambda _: None) for stage in job.stages[1:]]
        return trial, final[0] if final else None


class Bench:
    """A store, a project folder, and runs of it."""

    def __init__(self, folder: Path, project: dict[str, Any]) -> None:
        self.folder, self.project = folder, project
        self.store = Store.open(folder / "store")
        shutil.copytree(TOY, folder / "project", ignore=shutil.ignore_patterns("__pycache__"))

    def intent(self, run_id: str, **fields: Any) -> Intent:
        found = {
            "run_id": run_id,
            "project": plain.dump(plain.load(ProjectSpec, self.project)),
            "project_folder": str(self.folder / "project"),
            "store": str(self.folder / "store"),
            "cache": str(self.folder / "cache"),
            "runtime": str(self.folder / run_id),
            "node_address": "127.0.0.2",
        }
        path = self.folder / f"{run_id}.json"
        path.write_text(json.dumps({**found, **fields}))
        return intents.read(path)

    def run(self, run_id: str, **fields: Any) -> Result:
        figures = LocalRun(self.store, self.intent(run_id, **fields), self.folder).go()
        return intents.conclude(self.store, run_id, "succeeded", "", **figures)

    def retrain(self, run_id: str = "again", **fields: Any) -> Result:
        return self.run(run_id, **{"window": WHOLE, "holdout": 14 * DAY, **fields})

    def bundle(self, digest: str, name: str) -> Any:
        return json.loads(self.store.read(layout.bundle_file(digest, name)))

    def table(self, run_id: str = "again") -> pl.DataFrame:
        return pl.read_parquet(io.BytesIO(self.store.read(layout.run(run_id, "holdout.parquet"))))

    def edit(self, name: str, change: Callable[[str], str]) -> None:
        path = self.folder / "project" / name
        path.write_text(change(path.read_text()))


@pytest.fixture
def bench(tmp_path: Path, toy_project: dict[str, Any]) -> Bench:
    """The toy, whose data may be changed."""
    return Bench(tmp_path, toy_project)


def test_the_newest_span_is_held_out_and_both_models_answer_it(bench: Bench) -> None:
    champion = bench.run("first", window=HALF)["bundle"]
    result = bench.retrain(champion=champion, slices=["carrier"])
    table = bench.table()
    assert (result["holdout"]["start"], result["holdout"]["end"]) == (
        "2030-02-17T00:00:00+00:00",
        "2030-03-03T00:00:00+00:00",
    )
    assert (table.height, result["holdout"]["rows"]) == (14 * 24, 14 * 24)
    assert table["time"].min().isoformat() == "2030-02-17T00:00:00+00:00"  # type: ignore[union-attr]
    assert table.columns == ["time", "label", "candidate", "champion", "slice:carrier"]
    told = roc_auc_score(table["label"], table["candidate"].list.first())
    assert told == pytest.approx(result["metrics"]["test"]["auc"])
    assert roc_auc_score(table["label"], table["champion"].list.first()) > 0.8
    assert (result["data_end"], result["window"]) == ("2030-03-03", {**WHOLE, "exclude": []})
    facts = result["candidate"]
    assert (facts["champion"], facts["champion_data_end"], facts["champion_problem"]) == (champion, "2030-02-10", None)
    assert facts["parity"] is True
    assert 0 < facts["seconds_per_row"] < 1


def test_the_gates_understand_what_a_run_brings(bench: Bench) -> None:
    project = plain.load(ProjectSpec, bench.project)
    result = bench.retrain(champion=bench.run("first", window=HALF)["bundle"], slices=["carrier"])
    spec = project.gates.model_copy(update={"rows": 300, "margin": 0.2, "floors": {"auc": 0.7}, "calibration": 0.5})
    table, facts = HoldoutTable.of(bench.table()), CandidateFacts.of(result)
    report = judge(spec, project.monitoring, project.task, table, facts, np.random.default_rng(0))
    assert report.passed, report.reason
    assert report.plain()["subject"]["trial"] == result["trial"]
    assert {check.name for check in report.checks} >= {"rows", "margin", "floor auc", "refit floor auc", "parity"}


def test_the_refitted_bundle_is_bound_to_the_trial_that_proved_its_recipe(bench: Bench) -> None:
    champion = bench.run("first", window=HALF)["bundle"]
    result = bench.retrain(champion=champion)
    trial, final = (bench.bundle(result[name], "lineage.json") for name in ("trial", "bundle"))
    assert result["trial"] != result["bundle"]
    assert final["gate"]["trial"] == result["trial"]
    assert final["gate"]["champion"] == champion
    assert final["gate"]["holdout"]["start"] == result["holdout"]["start"]
    assert trial["recipe"] == final["recipe"] == result["candidate"]["recipe"]
    assert (trial["data_end"], final["data_end"]) == ("2030-02-17", "2030-03-03")
    assert trial["rounds"] == final["rounds"]


def test_without_a_refit_the_trial_is_the_bundle(bench: Bench) -> None:
    result = bench.retrain(refit=False)
    assert result["bundle"] == result["trial"]
    assert (result["data_end"], result["candidate"]["refit"]) == ("2030-02-17", {})


def test_what_is_held_out_teaches_the_trial_nothing(bench: Bench) -> None:
    told = bench.retrain("as-it-was")
    bench.edit(
        "toy_data.py",
        lambda text: text.replace(
            ').filter(pl.col("time") < end)',
            ').filter(pl.col("time") < end).with_columns('
            'late=pl.col("late") ^ (pl.col("time") >= dt.datetime(2030, 2, 17, tzinfo=dt.UTC)))',
        ),
    )
    turned = bench.retrain("turned")
    before, after = (bench.bundle(run["trial"], "manifest.json")["model_digest"] for run in (told, turned))
    assert before == after
    assert told["model_digest"] != turned["model_digest"]
    assert turned["metrics"]["test"]["auc"] == pytest.approx(1 - told["metrics"]["test"]["auc"])


def test_excluded_days_are_neither_learnt_from_nor_held_out_nor_checked(bench: Bench) -> None:
    bench.edit(
        "toy_data.py",
        lambda text: text.replace(
            ').filter(pl.col("time") < end)',
            ').filter(pl.col("time") < end).with_columns(distance=pl.when(pl.col("time").dt.date().is_in('
            '[dt.date(2030, 1, 5), dt.date(2030, 2, 20)])).then(1e6).otherwise(pl.col("distance")))',
        ),
    )
    days = ["2030-01-05", "2030-02-20"]
    result = bench.retrain(exclude=days)
    assert result["holdout"]["rows"] == 13 * 24
    seen = set(snapshots.load(bench.store, result["snapshot"])["time"].dt.date().cast(pl.String))
    assert not seen & set(days)
    assert len(seen) == 59
    manifest = json.loads(bench.store.read(layout.snapshot_manifest(result["snapshot"])))
    assert manifest["exclude"] == result["window"]["exclude"] == days
    with pytest.raises(snapshots.DataError, match="distance"):
        bench.retrain("with-them")


def test_a_champion_that_was_altered_is_told_and_the_candidate_is_made(bench: Bench) -> None:
    champion = bench.run("first", window=HALF)["bundle"]
    key = layout.bundle_file(champion, "model.ubj")
    bench.store.write(key, bench.store.read(key)[:-1] + b"?")
    result = bench.retrain(champion=champion)
    assert result["status"] == "succeeded"
    assert "model.ubj is not the file that the manifest names" in result["candidate"]["champion_problem"]
    assert HoldoutTable.of(bench.table()).champion is None


def test_a_champion_with_code_of_its_own_answers_by_it(bench: Bench) -> None:
    champion = bench.run("first", window=HALF)["bundle"]
    bench.retrain("same", champion=champion)
    bench.edit("toy_features.py", lambda text: text.replace('"rain", "carrier"', '"carrier"'))
    bench.retrain("other", champion=champion)
    same, other = bench.table("same"), bench.table("other")
    assert same["champion"].to_list() == other["champion"].to_list()
    assert same["candidate"].to_list() != other["candidate"].to_list()


def test_another_try_proves_itself_on_what_the_first_froze(bench: Bench) -> None:
    intent = bench.intent("again", window=WHOLE, holdout=14 * DAY)
    first = LocalRun(bench.store, intent, bench.folder).go()
    bench.edit("toy_data.py", lambda text: text.replace("default_rng(7)", "default_rng(8)"))
    changed = bench.intent("again", window=HALF, holdout=3 * DAY, refit=False)
    second = LocalRun(bench.store, changed, bench.folder).go()
    assert first["trial"] == second["trial"]
    assert first["bundle"] == second["bundle"]
    assert first["holdout"] == second["holdout"]


def test_early_stopping_watches_the_end_of_what_is_not_held_out(bench: Bench) -> None:
    bench.project["training"]["parameters"] |= {"early_stopping_rounds": 5}
    result = bench.retrain()
    lineage = bench.bundle(result["trial"], "lineage.json")
    assert result["metrics"]["validation"]["rows"] == round(47 * 24 * 0.1)
    assert result["metrics"]["test"]["rows"] == 14 * 24
    assert lineage["rounds"] < 60
    assert lineage["rounds"] == bench.bundle(result["bundle"], "lineage.json")["rounds"]


def test_the_recipe_is_tried_on_earlier_spans_too(bench: Bench) -> None:
    champion = bench.run("first", window=HALF)["bundle"]
    spans = bench.retrain(champion=champion, backtest=4)["candidate"]["backtest"]
    assert [span["start"][:10] for span in spans] == ["2030-02-03", "2030-01-20", "2030-01-06", "2029-12-23"]
    assert [span["rows"] for span in spans] == [336, 336, 336, 120]
    assert [span["difference"] is None for span in spans] == [False, False, True, True]
    assert all(abs(span["difference"]) < 0.1 for span in spans[:2])
    assert "too few" in spans[2]["problem"]


def test_the_projects_own_figure_is_taken_of_both_models(bench: Bench) -> None:
    champion = bench.run("first", window=HALF)["bundle"]
    (bench.folder / "project" / "money.py").write_text(
        "def saved(frame):\n"
        "    assert frame.columns[-2:] == ['output', 'label']\n    assert 'late' not in frame.columns\n"
        "    return (frame['output'] * frame['label']).sum()\n\n"
        "def lost(frame):\n    raise RuntimeError('no money')\n"
    )
    bench.project["monitoring"] = {"kpi": "money:saved"}
    kpi = bench.retrain("rich", champion=champion)["candidate"]["kpi"]
    assert kpi["problem"] is None
    assert kpi["candidate"] > 0 < kpi["champion"]
    bench.project["monitoring"] = {"kpi": "money:lost"}
    kpi = bench.retrain("poor", champion=champion)["candidate"]["kpi"]
    assert kpi == {"candidate": None, "champion": None, "problem": "monitoring.kpi: RuntimeError: no money"}


def test_a_first_model_tells_of_no_proof(bench: Bench) -> None:
    result = bench.run("first", window=HALF)
    assert (result["trial"], result["holdout"], result["candidate"]) == (None, None, None)
    assert result["data_end"] == "2030-02-10"
    assert not {"recipe", "gate", "stage", "data_end"} & set(bench.bundle(result["bundle"], "lineage.json"))
    frozen = json.loads(bench.store.read(layout.run("first", "frozen.json")))
    assert set(frozen) == {"kind", "version", "snapshot", "code"}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"holdout": 90 * DAY}, "0 of 1464 rows are older than the hold-out", id="longer-than-the-data"),
        pytest.param({"exclude": JANUARY, "window": DAYS_OF_JANUARY}, "no rows are left", id="every-day-excluded"),
    ],
)
def test_a_retraining_that_cannot_be_proven_says_why(bench: Bench, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(Exception, match=reason):
        bench.retrain(**fields)
