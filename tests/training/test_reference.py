"""The reference in a bundle counts every row once, and is read back as it was written."""

import datetime as dt
import json

import numpy as np
import polars as pl
import pytest

from stackyard.data.reference import Reference
from stackyard.training import reference

INPUTS = pl.DataFrame(
    {
        "at": [dt.datetime(2026, 1, 1, tzinfo=dt.UTC)] * 100,
        "n": [*range(98), None, 1000],
        "c": ["a"] * 60 + ["b"] * 39 + [None],
        "flag": [True] * 100,
    }
)


def test_every_row_is_counted_once_and_times_are_left_out() -> None:
    found = Reference.load(reference.describe(INPUTS, INPUTS.drop("at"), np.linspace(0, 1, 100), np.zeros(100)))
    assert sorted(found.inputs) == sorted(found.features) == ["c", "flag", "n"]
    number, words = found.inputs["n"], found.inputs["c"]
    assert (number.missing, number.present, number.total) == (1, 99, 100)
    assert (words.names, words.counts.tolist(), words.missing) == (("a", "b"), [60, 39], 1)
    assert (found.inputs["flag"].present, found.label.present, found.rows) == (100, 100, 100)


def test_classes_are_categories_and_have_an_output_each() -> None:
    outputs = np.random.default_rng(0).dirichlet([1, 1, 1], 100)
    found = Reference.load(reference.describe(INPUTS, INPUTS.drop("at"), outputs, np.arange(100) % 3))
    assert (len(found.outputs), found.label.names) == (3, ("0", "1", "2"))
    assert found.sketch_labels(np.array([0.0, 2.0, np.nan])).table.tolist() == [1, 0, 1, 0, 1]
    assert [sketch.total for sketch in found.sketch_outputs(outputs[:7])] == [7, 7, 7]


def test_a_reference_is_strict_json_and_reads_back() -> None:
    plain = reference.describe(INPUTS, INPUTS.drop("at"), np.linspace(0, 1, 100), np.zeros(100))
    assert Reference.load(json.loads(json.dumps(plain, allow_nan=False))).plain() == plain


FIRST = {
    "kind": "reference",
    "version": 1,
    "rows": 4,
    "features": {
        "n": {
            "type": "number", "missing": 1, "mean": 2.0, "std": 0.5, "minimum": 1.0, "maximum": 3.0,
            "edges": [2.0], "counts": [1, 2],
        },
        "c": {"type": "category", "missing": 0, "counts": {"b": 2, "a": 1}, "other": 1},
    },
    "outputs": [
        {
            "type": "number", "missing": 0, "mean": None, "std": None, "minimum": None, "maximum": None,
            "edges": [], "counts": [],
        }
    ],
    "label": {
        "type": "number", "missing": 0, "mean": 0.5, "std": 0.5, "minimum": 0.0, "maximum": 1.0,
        "edges": [0.5], "counts": [2, 2],
    },
}  # fmt: skip


def test_a_reference_of_the_first_version_still_opens() -> None:
    found = Reference.load(FIRST)
    assert found.inputs == {}
    assert found.features["n"].table.tolist() == [1, 2, 0, 1]
    assert found.features["c"].add(pl.Series(["z", "a", None])).table.tolist() == [2, 2, 2, 0, 1]
    assert found.outputs[0].total == 0


@pytest.mark.parametrize("change", [{"version": 3}, {"kind": "card"}], ids=["newer", "other-document"])
def test_what_is_newer_or_another_document_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no reference of version"):
        Reference.load(FIRST | change)
