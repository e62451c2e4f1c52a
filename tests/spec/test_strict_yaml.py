"""What the reader takes and what it refuses, where readers of YAML disagree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackyard.spec import reader
from stackyard.spec.reader import DEPTH_LIMIT, VALUES_LIMIT, Document, read
from stackyard.spec.scalars import Refused, plain

MEANT = {
    "whole": ("7", 7),
    "negative": ("-7", -7),
    "largest": ("9223372036854775807", 2**63 - 1),
    "smallest": ("-9223372036854775808", -(2**63)),
    "fraction": ("0.25", 0.25),
    "small": ("1.0e-3", 0.001),
    "true": ("true", True),
    "false": ("false", False),
    "null": ("null", None),
    "tilde": ("~", None),
    "nothing": ("", None),
    "word": ("north", "north"),
    "day": ("2024-01-31", "2024-01-31"),
    "duration": ("10s", "10s"),
    "version": ("1.2.3", "1.2.3"),
    "address": ("127.0.0.1", "127.0.0.1"),
    "letter-y": ("y", "y"),
    "function": ("source:read", "source:read"),
}
REFUSED = {
    "yaml-switch": ["yes", "no", "on", "off", "Yes", "NO", "oN", "OFF"],
    "yaml-not-finite": [".inf", "-.inf", "+.INF", ".nan", "NaN", "inf", "Infinity", "1.0e+999"],
    "yaml-odd-number": [
        *("010", "-007", "0o10", "0x10", "0b1", "1e3", "1E-3", "1.5e3", ".5e1", "1:30", "12:30:45", "190:20:30.15"),
        *("1_000", "1_000.5", "+1", "+1.5", ".5", "-.5", "5.", "0x_1f"),
    ],
    "yaml-huge-number": ["9223372036854775808", "-9223372036854775809", "9" * 5000],
}


@pytest.mark.parametrize("word", MEANT)
def test_a_plain_word_means_what_every_reader_takes_it_for(word):
    text, value = MEANT[word]
    found = plain(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, texts in REFUSED.items() for text in texts])
def test_a_word_that_readers_take_differently_is_refused(code, text):
    with pytest.raises(Refused) as refused:
        plain(text)
    assert refused.value.code == code


@pytest.fixture
def reading(tmp_path):
    def from_text(text: str | bytes) -> Document:
        file = tmp_path / "spec.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read(file)

    return from_text


UNREADABLE = {
    "empty": ("", "yaml-empty"),
    "only-a-comment": ("# nothing\n", "yaml-empty"),
    "only-null": ("null\n", "yaml-empty"),
    "only-a-marker": ("---\n", "yaml-empty"),
    "a-list": ("- a\n- b\n", "yaml-root"),
    "a-word": ("hello\n", "yaml-root"),
    "second-document": ("a: b\n---\nc: d\n", "yaml-documents"),
    "alias": ("a: *b\n", "yaml-alias"),
    "anchor": ("a: &b c\n", "yaml-anchor"),
    "anchored-key": ("&a b: c\n", "yaml-anchor"),
    "alias-bomb": ("a: &a [x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(99)), "yaml-anchor"),
    "tag": ("a: !!str b\n", "yaml-tag"),
    "tag-of-python": ("a: !!python/object/apply:os.system [date]\n", "yaml-tag"),
    "tag-on-the-root": ("!!map {a: b}\n", "yaml-tag"),
    "directive": ("%YAML 1.1\n---\na: b\n", "yaml-directive"),
    "tag-directive": ("%TAG ! !x-\n---\na: b\n", "yaml-directive"),
    "tab": ("a:\n\tb: c\n", "yaml-tab"),
    "tab-between": ("a:\tb\n", "yaml-tab"),
    "mark": ("\ufeffa: b\n", "yaml-byte-order-mark"),
    "wide": ("a: b\n".encode("utf-16"), "yaml-encoding"),
    "latin": (b"a: caf\xe9\n", "yaml-encoding"),
    "nul": (b"a: \0\n", "yaml-control-character"),
    "bell": ("a: \a\n", "yaml-control-character"),
    "backwards": ("a: \u202eb\n", "yaml-control-character"),
    "unseen": ("a: b\u200b\n", "yaml-control-character"),
    "unbreakable-space": ("a:\u00a0b\n", "yaml-control-character"),
    "line-separator": ("a: b\u2028c: d\n", "yaml-control-character"),
    "key-of-fields": ("? {a: b}\n: c\n", "yaml-key"),
    "colon": ("a: b: c\n", "yaml-syntax"),
    "bracket": ("a: [b\n", "yaml-syntax"),
    "quote": ('a: "b\n', "yaml-syntax"),
    "indentation": ("a: b\n  c: d\n", "yaml-syntax"),
    "percent": ("a: %b\n", "yaml-syntax"),
    "deep-brackets": ("a: " + "[" * 100_000, "yaml-deep"),
    "deep-braces": ("a: " + "{a: " * 60_000, "yaml-deep"),
    "deep-dashes": ("- " * 120_000, "yaml-deep"),
    "many-values": (f"a: [{'0,' * VALUES_LIMIT}]\n", "yaml-many-values"),
    "large": ("a: b\n" * 60_000, "file-large"),
}


@pytest.mark.parametrize("word", UNREADABLE)
def test_a_file_that_means_nothing_certain_is_refused_once(word, reading):
    text, code = UNREADABLE[word]
    document = reading(text)
    assert [problem.code for problem in document.problems] == [code]
    assert not isinstance(document.tree, dict)


KEPT_ON_READING = {
    "duplicate": ("a: 1\nb: 2\na: 3\n", ["yaml-duplicate"], [3]),
    "duplicate-in-braces": ("x: {a: 1, a: 2}\n", ["yaml-duplicate"], [1]),
    "duplicate-quoted": ('a: 1\n"a": 2\n', ["yaml-duplicate"], [2]),
    "merge-key": ("a:\n  <<: {b: 1}\n", ["yaml-merge-key"], [2]),
    "number-for-a-name": ("1: a\n", ["yaml-key"], [1]),
    "truth-for-a-name": ("a: b\ntrue: c\n", ["yaml-key"], [2]),
    "several": ("a: yes\nb: 010\nc: 1e3\n", ["yaml-switch", "yaml-odd-number", "yaml-odd-number"], [1, 2, 3]),
}


@pytest.mark.parametrize("word", KEPT_ON_READING)
def test_a_doubtful_value_is_told_with_its_line_and_reading_goes_on(word, reading):
    text, codes, lines = KEPT_ON_READING[word]
    document = reading(text)
    assert [problem.code for problem in document.problems] == codes
    assert [problem.line for problem in document.problems] == lines
    assert isinstance(document.tree, dict)


@pytest.mark.parametrize(
    "word", ["alias-bomb", "tag", "second-document", "deep-brackets", "colon", "bracket", "a-list"]
)
def test_a_machine_without_libyaml_refuses_the_same(word, reading, monkeypatch):
    monkeypatch.setattr(reader, "_Loader", yaml.SafeLoader)
    text, code = UNREADABLE[word]
    assert [problem.code for problem in reading(text).problems] == [code]
    assert reading("a: [1, b]\nc: {d: true}\n").tree == {"a": (1, "b"), "c": {"d": True}}


PLACES = {
    "missing": (lambda folder: folder / "absent.yaml", "file-missing"),
    "missing-folder": (lambda folder: folder / "absent" / "spec.yaml", "file-missing"),
    "folder": (lambda folder: folder, "file-folder"),
    "device": (lambda folder: Path("/dev/zero"), "file-special"),
    "below-a-file": (lambda folder: folder / "stack.yaml" / "x", "file-unreadable"),
    "nul-in-its-name": (lambda folder: folder / "a\0b", "file-unreadable"),
    "long-name": (lambda folder: folder / ("a" * 5000), "file-unreadable"),
}


@pytest.mark.parametrize("word", PLACES)
def test_what_is_no_ordinary_file_is_refused_without_being_read(word, tmp_path):
    (tmp_path / "stack.yaml").write_text("a: b\n")
    place, code = PLACES[word]
    assert [problem.code for problem in read(place(tmp_path)).problems] == [code]


def test_fifty_megabytes_are_refused_before_they_are_read(tmp_path):
    file = tmp_path / "large.yaml"
    with file.open("wb") as opened:
        opened.truncate(50_000_000)
    document = read(file)
    assert [problem.code for problem in document.problems] == ["file-large"]
    assert document.text == ""


def test_line_ends_of_every_system_count_as_lines(reading):
    document = reading("a: 1\r\nb: 2\r\nc: yes\r\n")
    assert document.problems[0].line == 3


def test_nesting_up_to_the_limit_is_read(reading):
    deep = DEPTH_LIMIT - 1
    assert reading(f"a: {'[' * deep}{']' * deep}\n").problems == []


VISIBLE = st.text(st.characters(exclude_categories=("C", "Z")) | st.sampled_from(' \n"'), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | VISIBLE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(VISIBLE, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(VISIBLE, VALUES, min_size=1, max_size=5))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_json_is_read_as_what_it_is(tmp_path_factory, tree):
    file = tmp_path_factory.mktemp("json") / "spec.yaml"
    file.write_text(json.dumps(tree, indent=1, ensure_ascii=False))
    document = read(file)
    assert document.problems == []
    assert document.tree == _tuples(tree)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_give_a_tree_or_a_problem(tmp_path_factory, raw):
    file = tmp_path_factory.mktemp("bytes") / "spec.yaml"
    file.write_bytes(raw)
    document = read(file)
    assert isinstance(document.tree, dict) or document.problems


def _tuples(value):
    if isinstance(value, dict):
        return {name: _tuples(each) for name, each in value.items()}
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value
