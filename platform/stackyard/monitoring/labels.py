"""Labels from a file: what came by mail or lay in a warehouse counts as if it had been sent today.

Strangers write such files, so each line is judged alone: those that cannot be meant are listed with file and line,
the others are taken. Taking the same file twice on a day changes nothing. Formats by suffix: .csv (first line names
columns), .parquet, and JSON lines for everything else. Columns: request_id, label, and optionally row (0).
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from stackyard.spec.models import TaskSpec
from stackyard.spec.problems import nearest, shown_value
from stackyard.store import layout
from stackyard.store.objects import Store

FILE_ROWS = 500_000
"""Labels in one file of the log."""
TOLD = 100
"""Rejected lines listed; the others are counted."""
LONGEST_ID = 200
_ROWS = 2**32
_WORDS = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}


class LabelFileError(Exception):
    """A file that holds no labels at all; `str` is for people."""


@dataclass(frozen=True)
class Imported:
    """What became of a file."""

    accepted: int
    """Labels now in the store."""
    known: int
    """Of these, labels that the same file had brought before on the same day."""
    rejected: int
    problems: tuple[str, ...]
    """`file:line: why` of the first rejected lines."""


def import_labels(store: Store, model: str, file: Path, task: TaskSpec, now: dt.datetime) -> Imported:
    """Take the labels of `file`, as received at `now` (aware). Raises LabelFileError, before anything is taken."""
    day = now.astimezone(dt.UTC).date().isoformat()
    accepted = known = rejected = 0
    problems: list[str] = []
    taken: list[tuple[str, int, float]] = []

    def keep() -> None:
        nonlocal accepted, known
        data, digest = _parquet(taken, now)
        written = store.create(layout.labels(model, day, f"import-{digest[:24]}.parquet"), data)
        accepted += len(taken)
        known += 0 if written else len(taken)
        taken.clear()

    for line, entry in _entries(file):
        try:
            taken.append(_label(entry, task))
        except ValueError as error:
            rejected += 1
            if len(problems) < TOLD:
                problems.append(f"{file}:{line}: {error}")
        if len(taken) == FILE_ROWS:
            keep()
    if taken:
        keep()
    return Imported(accepted, known, rejected, tuple(problems))


def value_of(label: Any, task: TaskSpec, *, text: bool = False) -> float:
    """The number by which the log keeps `label`: 0/1, a class's place, or the value itself.

    With `text` (CSV has no types) words are read as what they say. Raises ValueError with what was wanted.
    """
    if task.type == "multiclass":
        classes = task.classes or ()
        if isinstance(label, str) and label in classes:
            return float(classes.index(label))
        near = nearest(str(label), list(classes))
        raise ValueError(f"label {shown_value(label)} is not a class" + (f"; did you mean {near}?" if near else ""))
    if task.type == "binary":
        if isinstance(label, bool) or (isinstance(label, int | float) and label in (0, 1)):
            return float(label)
        if text and isinstance(label, str) and label.strip().lower() in _WORDS:
            return _WORDS[label.strip().lower()]
        raise ValueError(f"label {shown_value(label)} is not true or false")
    try:
        found = float(label) if text or (isinstance(label, int | float) and not isinstance(label, bool)) else math.nan
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"label {shown_value(label)} is not a number")
    return found


@dataclass(frozen=True)
class _Entry:
    fields: Any
    text: bool


def _label(entry: _Entry | str, task: TaskSpec) -> tuple[str, int, float]:
    if isinstance(entry, str):
        raise ValueError(entry)
    fields = entry.fields
    if not isinstance(fields, dict):
        raise ValueError("is not an object with request_id and label")
    request_id = fields.get("request_id")
    if not isinstance(request_id, str) or not 0 < len(request_id) <= LONGEST_ID:
        raise ValueError("request_id is not a text of 1 to 200 characters")
    if fields.get("label") is None:
        raise ValueError("label is missing")
    return request_id, _row(fields.get("row"), entry.text), value_of(fields["label"], task, text=entry.text)


def _row(row: Any, text: bool) -> int:
    if row is None or (text and isinstance(row, str) and not row.strip()):
        return 0
    if text and isinstance(row, str) and row.strip().isascii() and row.strip().isdigit():
        row = int(row)
    if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < _ROWS:
        raise ValueError(f"row {shown_value(row)} is not a whole number from 0")
    return row


def _entries(file: Path) -> Iterator[tuple[int, _Entry | str]]:
    """(line, fields) of each label, or (line, what is wrong with it)."""
    try:
        if file.suffix == ".parquet":
            yield from _of_parquet(file)
        else:
            with file.open(encoding="utf-8", errors="replace", newline="") as lines:
                yield from _of_csv(file, lines) if file.suffix == ".csv" else _of_json(lines)
    except OSError as error:
        raise LabelFileError(f"{file}: {error.strerror}") from None


def _of_csv(file: Path, lines: Iterable[str]) -> Iterator[tuple[int, _Entry | str]]:
    reader = csv.reader(lines)
    try:
        names = [name.strip().removeprefix("\ufeff") for name in next(reader, [])]
        _check_columns(file, names)
        for fields in reader:
            if len(fields) == len(names):
                yield reader.line_num, _Entry({k: v or None for k, v in zip(names, fields, strict=True)}, text=True)
            elif fields:
                yield reader.line_num, f"has {len(fields)} fields, the first line has {len(names)}"
    except csv.Error as error:
        yield reader.line_num, f"and all that follows cannot be read: {error}"


def _of_json(lines: Iterable[str]) -> Iterator[tuple[int, _Entry | str]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield number, _Entry(json.loads(line), text=False)
        except (ValueError, RecursionError) as error:
            yield number, f"is not JSON: {error}"


def _of_parquet(file: Path) -> Iterator[tuple[int, _Entry | str]]:
    try:
        _check_columns(file, list(pl.read_parquet_schema(file)))
        frame = pl.read_parquet(file)
    except pl.exceptions.PolarsError as error:
        raise LabelFileError(f"{file}: cannot be read as Parquet: {str(error).splitlines()[0][:200]}") from None
    wanted = [name for name in ("request_id", "row", "label") if name in frame.columns]
    for number, fields in enumerate(frame.select(wanted).iter_rows(named=True), start=1):
        yield number, _Entry(fields, text=False)


def _check_columns(file: Path, names: list[str]) -> None:
    lacking = [name for name in ("request_id", "label") if name not in names]
    if lacking:
        raise LabelFileError(
            f"{file}: no column {' and none '.join(lacking)}; it has {', '.join(names[:10]) or 'none'}"
        )


def _parquet(taken: list[tuple[str, int, float]], now: dt.datetime) -> tuple[bytes, str]:
    """The file's bytes, and a digest of its labels alone: the hour of arrival makes no new file of them."""
    schema = {"request_id": pl.String, "row": pl.UInt32, "label": pl.Float64}
    frame = pl.DataFrame(taken, schema=schema, orient="row")
    digest = hashlib.sha256(json.dumps(taken).encode()).hexdigest()
    stamp = pl.lit(now.astimezone(dt.UTC)).cast(pl.Datetime("us", "UTC")).alias("received")
    buffer = io.BytesIO()
    frame.with_columns(stamp).write_parquet(buffer, compression="zstd")
    return buffer.getvalue(), digest
