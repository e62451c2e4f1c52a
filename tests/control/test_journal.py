"""The controller's memory is where it was told to be, whatever the folder is called."""

from __future__ import annotations

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
