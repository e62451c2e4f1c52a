"""The controller's memory is where it was told to be, whatever the folder is called."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from stackyard.control.journal import Journal


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a space", id="space"),
        pytest.param("100%25", id="percent"),
        pytest.param("#1", id="hash"),
        pytest.param("really?mode=memory", id="question-mark"),
    ],
)
def test_a_database_lies_in_its_folder_whatever_that_is_called(tmp_path: Path, name: str) -> None:
    file = tmp_path / name / "db" / "controller.sqlite"
    journal = Journal(f"sqlite:///{file}")
    journal.migrate()
    journal.close()
    assert file.exists()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_decision_is_found_by_its_topic_however_many_others_were_made_since(tmp_path: Path) -> None:
    journal = Journal(f"sqlite:///{tmp_path / 'controller.sqlite'}")
    journal.migrate()
    journal.close()
    query = "SELECT * FROM decisions WHERE model = 'm' AND topic = 't' ORDER BY id DESC LIMIT 1"
    with contextlib.closing(sqlite3.connect(tmp_path / "controller.sqlite")) as connection:
        plan = " ".join(str(row[-1]) for row in connection.execute(f"EXPLAIN QUERY PLAN {query}"))
    assert "decisions_by_topic (model=? AND topic=?)" in plan
    assert "TEMP B-TREE" not in plan  # no sorting: the newest is the index's last
