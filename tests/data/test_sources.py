"""Rows come from functions and files alike: one window, one order, nothing repaired."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from stackyard.data import sources
from stackyard.data.checks import violations
from stackyard.data.errors import DataError
from stackyard.spec.models import ProjectSpec, WindowSpec

SOURCE = Path(__file__).with_name("orders.txt").read_text()

Change = Callable[..., ProjectSpec]
JANUARY = WindowSpec.model_validate_json('{"start": "2026-01-01", "end": "2026-01-03"}')


def _replace(folder: Path, body: str) -> None:
    """Give the source function another body; `frame` is what it would have returned."""
    text = SOURCE.replace("def read(", "def original(")
    (folder / "orders.py").write_text(f"{text}\ndef read(start, end):\n    frame = original(start, end)\n    {body}\n")


def test_a_function_is_asked_for_the_window_and_the_spec_orders_columns(project: ProjectSpec, folder: Path) -> None:
    _replace(folder, "return frame.select(sorted(frame.columns))")
    assert sources.read(project.data, folder, None).height == 40
    frame = sources.read(project.data, folder, JANUARY)
    assert frame.height == 8
    assert frame.columns == list(project.data.columns)
    assert frame.schema["ordered"] == pl.Datetime("us", "UTC")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("return frame.sample(fraction=1, shuffle=True)", id="shuffled"),
        pytest.param("return frame.reverse()", id="reversed"),
        pytest.param("return frame.lazy()", id="lazy"),
        pytest.param(
            "return frame.cast({'items': pl.Int8, 'shop': pl.Categorical, 'ordered': pl.Datetime('ns', 'UTC')})",
            id="other-types-of-the-same-values",
        ),
        pytest.param(
            "return frame.with_columns(pl.col('ordered').dt.convert_time_zone('Asia/Tokyo'))", id="other-zone"
        ),
    ],
)
def test_equal_rows_are_equal_frames_however_they_come(project: ProjectSpec, folder: Path, body: str) -> None:
    expected = sources.read(project.data, folder, None)
    _replace(folder, body)
    assert sources.read(project.data, folder, None).equals(expected)


def test_duplicates_and_ties_are_kept_and_ordered(project: ProjectSpec, folder: Path) -> None:
    tie = "frame = frame.with_columns(ordered=pl.lit(start, dtype=frame.schema['ordered']))"
    _replace(folder, f"{tie}; return pl.concat([frame, frame])")
    expected = sources.read(project.data, folder, JANUARY)
    assert expected.height == 16
    _replace(folder, f"{tie}; return pl.concat([frame, frame]).sample(fraction=1, shuffle=True)")
    assert sources.read(project.data, folder, JANUARY).equals(expected)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        pytest.param("return frame.head(0)", "no rows from 2026-01-01", id="empty"),
        pytest.param("return None", "must return a polars DataFrame, not NoneType", id="nothing"),
        pytest.param("raise ValueError('no\\nway')", r"orders\.py:\d+: ValueError: no$", id="failure"),
        pytest.param("raise SystemExit(1)", r"orders\.py:\d+: SystemExit: 1", id="exit"),
        pytest.param("return frame['absent']", r"orders\.py:\d+: ColumnNotFoundError", id="failure-in-a-library"),
        pytest.param(
            "return frame.with_columns(pl.col('ordered').dt.offset_by('-1d'))",
            "returned 4 of 40 rows outside 2026-01-01 to 2026-01-11",
            id="outside-the-window",
        ),
    ],
)
def test_a_source_that_fails_is_told_in_one_sentence(project: ProjectSpec, folder: Path, body: str, told: str) -> None:
    _replace(folder, body)
    with pytest.raises(DataError, match=told) as caught:
        sources.read(project.data, folder, None)
    assert "\n" not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def _store(frame: pl.DataFrame, folder: Path, kind: str) -> None:
    (folder / "rows" / "later").mkdir(parents=True)
    halves = {"rows/a": frame.tail(20), "rows/later/b": frame.head(20)}
    for name, half in halves.items():
        if kind == "parquet":
            half.write_parquet(folder / f"{name}.parquet")
        else:
            half.with_columns(pl.col("ordered").dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ")).write_csv(folder / f"{name}.csv")
    (folder / "rows" / f"_tmp.{kind}").write_bytes(b"torn")
    (folder / "rows" / "README").write_bytes(b"words")


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize(
    "where",
    [
        pytest.param("rows", id="folder"),
        pytest.param("rows/**/[ab].{}", id="glob"),
        pytest.param("file://{folder}/rows", id="store"),
        pytest.param("file://{folder}/rows/**/[ab].{}", id="store-glob"),
    ],
)
def test_files_give_the_rows_that_the_function_gave(
    change: Change, project: ProjectSpec, folder: Path, rows: pl.DataFrame, kind: str, where: str
) -> None:
    _store(rows, folder, kind)
    data = change(source={kind: where.format(kind, folder=folder)}).data
    assert sources.read(data, folder, None).equals(sources.read(project.data, folder, None))
    assert sources.read(data, folder, JANUARY).height == 8  # files hold more than the window
    assert not violations(sources.read(data, folder, None), data)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("form", ["rows/a.{}", "file://{folder}/rows/a.{}"])
def test_a_single_file_can_be_named(change: Change, folder: Path, rows: pl.DataFrame, kind: str, form: str) -> None:
    _store(rows, folder, kind)
    data = change(source={kind: form.format(kind, folder=folder)}).data
    assert sources.read(data, folder, None).height == 20


def test_text_that_does_not_read_as_its_type_is_named_value_by_value(change: Change, folder: Path) -> None:
    (folder / "rows.csv").write_text(
        "ordered,weight,items,shop,gift,note,minutes,late\n"
        "2026-01-01T00:00:00Z,1.5,2,north,true,,,false\n"
        "2026-01-02T00:00:00Z,heavy,2.5,south,maybe,,3,TRUE\n"
        "2026-01-03T00:00:00Z,,3,south,False,x,3,true\n"
    )
    data = change(source={"csv": "rows.csv"}).data
    found = {violation.column: violation for violation in violations(sources.read(data, folder, None), data)}
    assert {name: (violation.rule, violation.count) for name, violation in found.items()} == {
        "weight": ("type float", 1),
        "items": ("type integer", 1),
        "gift": ("type boolean", 1),
    }
    assert found["weight"].examples == ('"heavy" at 2026-01-02 00:00',)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        pytest.param({}, "no .csv file at rows", id="none"),
        pytest.param({"a.csv": "", "b.csv": "x\n1\n"}, r"rows/a\.csv: cannot be read as csv", id="empty-file"),
        pytest.param(
            {"a.csv": "x,y\n1,2\n", "b.csv": "x\n1\n"}, r"b\.csv: other columns than .*a\.csv: y", id="columns"
        ),
    ],
)
def test_files_that_cannot_be_read_are_named(change: Change, folder: Path, files: dict[str, str], told: str) -> None:
    (folder / "rows").mkdir()
    for name, text in files.items():
        (folder / "rows" / name).write_text(text)
    with pytest.raises(DataError, match=told):
        sources.read(change(source={"csv": "rows"}).data, folder, None)


@pytest.mark.parametrize(
    ("where", "told"),
    [
        pytest.param("nowhere://bucket/rows", "nowhere://bucket/rows: ", id="unknown-scheme"),
        pytest.param("file:///nowhere-at-all/rows", "nowhere-at-all", id="absent"),
    ],
)
def test_a_store_that_cannot_be_read_is_one_sentence(change: Change, folder: Path, where: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        sources.read(change(source={"parquet": where}).data, folder, None)


def test_torn_parquet_is_named(change: Change, folder: Path, rows: pl.DataFrame) -> None:
    out = io.BytesIO()
    rows.write_parquet(out)
    (folder / "rows.parquet").write_bytes(out.getvalue()[:-100])
    with pytest.raises(DataError, match=r"rows\.parquet: cannot be read as parquet"):
        sources.read(change(source={"parquet": "rows.parquet"}).data, folder, None)
