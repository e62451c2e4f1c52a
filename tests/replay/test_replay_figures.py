"""The figures of a replay are derived anew, and the yardsticks know nothing of what came after."""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from stackyard.replay import figures, rows
from stackyard.replay.yardsticks import Yardsticks
from town import START, Town

ONE = dt.timedelta(days=1)
SCORES = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=80)


@given(SCORES)
def test_the_auc_is_the_one_everybody_knows_ties_and_all(pairs: list[tuple[bool, int]]) -> None:
    labels, scores = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    found = figures.auc(labels, scores)
    if len(set(labels)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(roc_auc_score(labels, scores))


MONTHS = {
    "whole": ("2013-03-01", "2013-06-01", ["2013-03", "2013-04", "2013-05"]),
    "cut-at-both-ends": ("2013-03-02", "2013-05-03", ["2013-04"]),
    "over-new-year": ("2013-12-01", "2014-01-02", ["2013-12"]),
    "none-is-whole": ("2013-03-20", "2013-04-10", ["2013-03", "2013-04"]),
}


@pytest.mark.parametrize(("start", "end", "months"), MONTHS.values(), ids=MONTHS)
def test_months_that_were_lived_through_whole_count(start: str, end: str, months: list[str]) -> None:
    assert figures.whole_months(dt.date.fromisoformat(start), dt.date.fromisoformat(end)) == months


def test_psi_is_zero_for_equal_shares_and_grows_with_the_shift() -> None:
    base = np.array([100.0, 100.0, 100.0])
    assert figures.psi(base, 2 * base) == pytest.approx(0.0, abs=1e-4)
    assert 0 < figures.psi(base, np.array([110.0, 100, 90])) < figures.psi(base, np.array([200.0, 60, 40]))


def put(town: Town, key: str, rows_: list[dict[str, object]]) -> None:
    data = io.BytesIO()
    pl.DataFrame(rows_, schema_overrides={"row": pl.UInt32}).write_parquet(data)
    town.store.create(key, data.getvalue())


def test_what_users_were_answered_is_joined_with_the_newest_truth(town: Town) -> None:
    noon = rows.midnight(START) + ONE / 2
    common = {"row": 0, "time": noon, "bundle": "b", "release": 2, "seconds": 0.1}

    def answer(request_id: str, arm: str, outcome: str, outputs: list[float]) -> dict[str, object]:
        return {"request_id": request_id, "arm": arm, "outcome": outcome, "outputs": outputs, **common}

    log = [
        answer("champion", "champion", "ok", [0.1]),
        answer("champion", "shadow", "ok", [0.9]),
        answer("by-canary", "canary", "ok", [0.8]),
        answer("canary-failed", "canary", "error", []),
        answer("canary-failed", "champion", "ok", [0.3]),
        answer("unlabelled", "champion", "ok", [0.5]),
    ]
    put(town, f"predictions/toy/{START}/1.parquet", log)
    put(town, f"predictions/toy/{START}/2.parquet", [log[0]])  # a request that was sent to a second replica
    truths = [(name, noon + ONE, 0.0) for name in ("champion", "by-canary", "canary-failed")]
    truths.append(("by-canary", noon + 2 * ONE, 1.0))
    labels = [{"request_id": name, "row": 0, "label": label, "received": at} for name, at, label in truths]
    put(town, f"labels/toy/{START + ONE}/1.parquet", labels)
    found = figures.answered(town.yard(1), [START])
    told = list(zip(found.ids, found.outputs, found.labels, strict=True))
    assert told == [("by-canary", 0.8, 1.0), ("canary-failed", 0.3, 0.0), ("champion", 0.1, 0.0)]


def sticks(town: Town, cache: Path, said: list[str]) -> Yardsticks:
    folder = town.spec.project_folder
    return Yardsticks(
        town.project, folder, town.store, cache, lambda day: rows.read(town.project, folder, day), said.append
    )


def test_the_oracle_knows_all_before_its_month_and_nothing_after(town: Town, tmp_path: Path) -> None:
    days = [dt.date(2024, 1, 31), dt.date(2024, 2, 1), dt.date(2024, 2, 2)]
    before = sticks(town, tmp_path / "before", []).oracle(days)
    source = town.spec.project_folder / "rows.py"
    text = source.read_text()
    source.write_text(
        text.replace("    late = random", "    turned = turned if day.month == 1 else 7\n    late = random")
    )
    assert sticks(town, tmp_path / "after", []).oracle(days) == before
    source.write_text(text.replace("    late = random", "    turned = -turned\n    late = random"))
    assert sticks(town, tmp_path / "other", []).oracle(days) != before


def test_yardsticks_are_made_once(town: Town, tmp_path: Path) -> None:
    days, said = [START, START + ONE], []
    first = sticks(town, tmp_path / "cache", said)
    made = first.frozen(town.bundle, days), first.oracle(days)
    assert any("training the oracle" in one for one in said)
    said.clear()
    again = sticks(town, tmp_path / "cache", said)
    assert (again.frozen(town.bundle, days), again.oracle(days)) == made
    assert not any("training the oracle" in one for one in said)
