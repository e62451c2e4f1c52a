"""Labels from a file: each line stands alone, and taking it twice changes nothing."""

import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from logbook import at
from stackyard.monitoring.labels import Imported, LabelFileError, import_labels
from stackyard.spec.models import TaskSpec
from stackyard.store.objects import Store

BINARY = TaskSpec(type="binary", label="late")
CLASSES = TaskSpec(type="multiclass", label="kind", classes=("cat", "dog"))
NUMBER = TaskSpec(type="regression", label="price")
NOW = at("2030-01-03 10:00")


def taken(folder: Path, name: str, content: str | bytes, task: TaskSpec = BINARY) -> tuple[Imported, list[Any]]:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    store = Store.open(folder / "store")
    found = import_labels(store, "m", file, task, NOW)
    frames = [pl.read_parquet(io.BytesIO(store.read(key))) for key in store.keys("labels/m/2030-01-03")]
    return found, pl.concat(frames).select("request_id", "row", "label").rows() if frames else []


LINES: dict[str, tuple[TaskSpec, str, str, float | str]] = {
    "true": (BINARY, ".csv", "a,true", 1.0),
    "capital": (BINARY, ".csv", "a,False", 0.0),
    "one": (BINARY, ".csv", "a,1", 1.0),
    "half": (BINARY, ".csv", "a,0.5", "not true or false"),
    "empty": (BINARY, ".csv", "a,", "label is missing"),
    "no-id": (BINARY, ".csv", ",1", "request_id"),
    "too-many-fields": (BINARY, ".csv", "a,1,1", "has 3 fields"),
    "class": (CLASSES, ".csv", "a,dog", 1.0),
    "near-class": (CLASSES, ".csv", "a,dogg", "did you mean dog"),
    "number": (NUMBER, ".csv", "a,-1.5e3", -1500.0),
    "not-finite": (NUMBER, ".csv", "a,nan", "not a number"),
    "json-bool": (BINARY, ".jsonl", '{"request_id": "a", "label": true}', 1.0),
    "json-text": (BINARY, ".jsonl", '{"request_id": "a", "label": "true"}', "not true or false"),
    "json-text-number": (NUMBER, ".jsonl", '{"request_id": "a", "label": "3"}', "not a number"),
    "json-bool-number": (NUMBER, ".jsonl", '{"request_id": "a", "label": true}', "not a number"),
    "json-row": (NUMBER, ".jsonl", '{"request_id": "a", "label": 3, "row": 0}', 3.0),
    "json-negative-row": (NUMBER, ".jsonl", '{"request_id": "a", "label": 3, "row": -1}', "row -1"),
    "json-list": (NUMBER, ".jsonl", "[1]", "not an object"),
    "not-json": (NUMBER, ".jsonl", "{request_id", "not JSON"),
    "huge": (NUMBER, ".jsonl", '{"request_id": "a", "label": 1e999}', "not a number"),
    "deep": (NUMBER, ".jsonl", "[" * 100_000, "not JSON"),
}


@pytest.mark.parametrize("name", LINES)
def test_a_line_is_taken_or_rejected_with_its_place(tmp_path: Path, name: str) -> None:
    task, suffix, line, expected = LINES[name]
    content = f"request_id,label\n{line}\n" if suffix == ".csv" else f"\n{line}\n"
    found, rows = taken(tmp_path, f"labels{suffix}", content, task)
    if isinstance(expected, float):
        assert rows == [("a", 0, expected)]
        assert found == Imported(accepted=1, known=0, rejected=0, problems=())
    else:
        assert rows == []
        assert found.rejected == 1
        assert found.problems[0].startswith(f"{tmp_path}/labels{suffix}:2: ")
        assert str(expected) in found.problems[0]


def test_parquet_is_read_with_its_types(tmp_path: Path) -> None:
    frame = pl.DataFrame({"row": [3, 4], "label": [True, None], "request_id": ["a", "b"], "other": [1, 2]})
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    found, rows = taken(tmp_path, "l.parquet", buffer.getvalue())
    assert rows == [("a", 3, 1.0)]
    assert found.problems == (f"{tmp_path}/l.parquet:2: label is missing",)


def test_the_same_file_twice_on_a_day_changes_nothing(tmp_path: Path) -> None:
    content = "request_id,label,row\na,1,0\na,0,1\n"
    assert taken(tmp_path, "l.csv", content)[0] == Imported(2, 0, 0, ())
    found, rows = taken(tmp_path, "l.csv", content)
    assert found == Imported(2, 2, 0, ())
    assert rows == [("a", 0, 1.0), ("a", 1, 0.0)]


def test_many_labels_become_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackyard.monitoring.labels.FILE_ROWS", 10)
    lines = [json.dumps({"request_id": f"r{n}", "label": n % 2}) for n in range(25)]
    found, rows = taken(tmp_path, "l.jsonl", "\n".join(lines))
    assert (found.accepted, len(rows)) == (25, 25)


NO_LABELS: dict[str, tuple[str, bytes]] = {
    "other-columns": ("l.csv", b"id,label\n1,2\n"),
    "empty": ("l.csv", b""),
    "not-parquet": ("l.parquet", b"request_id,label"),
}


@pytest.mark.parametrize("name", NO_LABELS)
def test_a_file_without_labels_is_one_clear_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(LabelFileError, match=r"no column|cannot be read"):
        taken(tmp_path, *NO_LABELS[name])


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LabelFileError, match="No such file"):
        import_labels(Store.open(tmp_path / "store"), "m", tmp_path / "none.csv", BINARY, NOW)
