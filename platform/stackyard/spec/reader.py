"""A strict reader of YAML: each value with its line, and no value that two readers would understand differently.

It walks the events of libyaml (fast, iterative, nothing is ever expanded), so an alias bomb or a thousand brackets
is refused where it begins. Refused: anchors, aliases, merge keys, tags, directives, tabs, a byte order mark, control
characters, a second document, duplicate keys, deep nesting, large files, and the words that `scalars` refuses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from stackyard.spec.files import Unfit, text
from stackyard.spec.problems import AT_MOST, Keys, Origin, Problem, shown_value
from stackyard.spec.scalars import Refused, plain

DEPTH_LIMIT = 24
"""Levels of nesting. A spec needs seven."""
VALUES_LIMIT = 25_000
"""Keys and values in one file."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is 15 times faster; either gives the same events


class Unreadable:
    """Stands where a refused value was, so that reading goes on; nothing else is said about such a place."""

    def __repr__(self) -> str:
        return "(refused)"


UNREADABLE: Final = Unreadable()


@dataclass
class Document:
    """One file as read. `tree` holds dict, tuple, str, int, float, bool, None; `lines` the line of each place."""

    file: Path
    text: str = ""
    tree: Any = UNREADABLE
    lines: dict[Keys, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def origin(self, keys: Keys) -> Origin:
        """Where the place is written; for a missing one, where the nearest place above it is."""
        above = keys
        while above and above not in self.lines:
            above = above[:-1]
        return Origin(self.file, self.lines.get(above, 1), keys)


class _Stop(Exception):
    """Nothing after this point of the file can be trusted."""


def read(file: Path) -> Document:
    """Reads a spec file whose root is a mapping. Never raises for what the file holds: see `Document.problems`."""
    document = Document(file)
    try:
        document.text = text(file)
        _Builder(document).build()
    except Unfit as found:
        document.problems.append(Problem(found.code, Origin(file, found.line), found.rule, found.remedy, found.value))
    except _Stop:
        document.tree = UNREADABLE
    return document


@dataclass
class _Frame:
    """A collection that is still open: where it is, what it holds, and the key whose value comes next."""

    keys: Keys
    mapping: bool
    items: list[Any] = field(default_factory=list)
    names: dict[str, Any] = field(default_factory=dict)
    pending: str | None = None
    refused: set[str] = field(default_factory=set)

    @property
    def place(self) -> Keys:
        return (*self.keys, len(self.items) if self.pending is None else self.pending)

    def put(self, value: Any) -> None:
        if self.mapping:
            name = str(self.pending)
            self.names[name] = UNREADABLE if name in self.refused else value
            self.pending = None
        else:
            self.items.append(value)


class _Builder:
    """Turns events into a tree with lines."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.frames: list[_Frame] = []
        self.values = 0

    def build(self) -> None:
        loader = _Loader(self.document.text)
        documents = 0
        try:
            while not isinstance(event := loader.get_event(), yaml.StreamEndEvent):
                if isinstance(event, yaml.DocumentStartEvent):
                    documents += 1
                    self._start(event, documents)
                elif isinstance(event, yaml.NodeEvent):
                    self._node(event, event.start_mark.line + 1)
                elif isinstance(event, yaml.CollectionEndEvent):
                    closed = self.frames.pop()
                    self._put(closed.names if closed.mapping else tuple(closed.items))
        except yaml.YAMLError as error:
            raise self._syntax(error) from None
        finally:
            loader.dispose()
        self._root()

    def _start(self, event: Any, documents: int) -> None:
        line = event.start_mark.line + 1
        if documents > 1:
            raise self._stop("yaml-documents", line, "a second document begins", "keep one spec in one file")
        if event.version or event.tags:
            raise self._stop("yaml-directive", line, "is a directive", "remove the line that begins with %")

    def _root(self) -> None:
        tree, line = self.document.tree, self.document.lines.get((), 1)
        if tree is None or (tree is UNREADABLE and not self.document.problems):
            raise self._stop("yaml-empty", line, "the file is empty", "write the fields of a spec")
        if not isinstance(tree, dict):
            raise self._stop("yaml-root", line, "the file does not hold fields", "begin with `field: value` lines")

    def _node(self, event: Any, line: int) -> None:
        self.values += 1
        if self.values > VALUES_LIMIT:
            raise self._stop("yaml-many-values", line, f"more than {VALUES_LIMIT} values", "keep data out of the spec")
        if len(self.document.problems) > AT_MOST:
            raise _Stop
        frame = self.frames[-1] if self.frames else None
        if frame and frame.mapping and frame.pending is None:
            frame.pending = self._key(event, line, frame)
            return
        keys = frame.place if frame else ()
        self.document.lines.setdefault(keys, line)
        self._refuse_sharing(event, line, keys)
        if isinstance(event, yaml.CollectionStartEvent):
            if len(self.frames) >= DEPTH_LIMIT:
                rule = f"is nested more than {DEPTH_LIMIT} deep"
                raise self._stop("yaml-deep", line, rule, "remove the brackets or the indentation")
            self.frames.append(_Frame(keys, isinstance(event, yaml.MappingStartEvent)))
        else:
            self._put(self._scalar(event, line, keys))

    def _put(self, value: Any) -> None:
        if self.frames:
            self.frames[-1].put(value)
        else:
            self.document.tree = value

    def _key(self, event: Any, line: int, frame: _Frame) -> str:
        self._refuse_sharing(event, line, frame.keys)
        if not isinstance(event, yaml.ScalarEvent):
            raise self._stop("yaml-key", line, "a field's name must be one word", "write `name: value`")
        name, keys = event.value, (*frame.keys, event.value)
        value = self._scalar(event, line, keys)
        refusal = None
        if name == "<<" and event.implicit[0]:
            refusal = ("yaml-merge-key", "is a merge key", "write the fields out", None)
        elif value is not UNREADABLE and not isinstance(value, str):
            refusal = ("yaml-key", "a field's name must be text", "quote it", shown_value(name))
        elif name in frame.names:
            rule = f"is written twice, first in line {self.document.lines[keys]}"
            refusal = ("yaml-duplicate", rule, "keep one", None)
        if refusal is not None:
            code, rule, remedy, shown = refusal
            self._tell(code, line, keys, rule, remedy, shown)
        if refusal is not None or value is UNREADABLE:
            frame.refused.add(name)
        self.document.lines[keys] = line
        return name

    def _scalar(self, event: Any, line: int, keys: Keys) -> Any:
        if not isinstance(event, yaml.ScalarEvent):
            return UNREADABLE
        if not event.implicit[0]:  # quoted, or a block of text
            return event.value
        try:
            return plain(event.value)
        except Refused as found:
            self._tell(found.code, line, keys, found.rule, found.remedy, shown_value(event.value)[1:-1])
            return UNREADABLE

    def _refuse_sharing(self, event: Any, line: int, keys: Keys) -> None:
        """Anchors, aliases and tags end the reading: what follows may mean anything."""
        if isinstance(event, yaml.AliasEvent):
            raise self._stop("yaml-alias", line, "is an alias", "write the value out", keys)
        if event.anchor is not None:
            raise self._stop("yaml-anchor", line, "has an anchor", "remove the word that begins with &", keys)
        if event.tag is not None:
            raise self._stop("yaml-tag", line, "has a tag", "remove the word that begins with !", keys)

    def _tell(self, code: str, line: int, keys: Keys, rule: str, remedy: str, value: str | None) -> None:
        self.document.problems.append(Problem(code, Origin(self.document.file, line, keys), rule, remedy, value))

    def _stop(self, code: str, line: int, rule: str, remedy: str, keys: Keys = ()) -> _Stop:
        self._tell(code, line, keys, rule, remedy, None)
        return _Stop()

    def _syntax(self, error: yaml.YAMLError) -> _Stop:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        what = getattr(error, "problem", None) or "cannot be understood"
        rule, remedy = _SYNTAX.get(
            what, (f"is not YAML ({what})", "check the brackets, quotes and indentation here and above")
        )
        return self._stop("yaml-syntax", mark.line + 1 if mark else 1, rule, remedy)


_STRAY: Final = (
    "is not where a field can begin",
    "align it with its neighbours, or close the quote or bracket above",
)
_SYNTAX: Final = {
    "mapping values are not allowed in this context": (
        "has a colon where no field can begin",
        "indent it like its neighbours, or quote a value that holds `: `",
    ),
    "could not find expected ':'": ("is neither a field nor a value", "write `name: value`"),
    "did not find expected key": _STRAY,
    "did not find expected <document start>": _STRAY,
    "found unexpected end of stream": ("a quote is never closed", "close the quote that opens above"),
    "found character that cannot start any token": ("begins with a sign that YAML keeps for itself", "quote it"),
}
"""What libyaml says, as an author would put it; anything else is told in its words."""
