"""What is wrong with a spec, as one line a person can act on.

A spec may hold many mistakes; all are told at once, each with the place it was written, the value, the rule it
breaks and what to write instead. Nothing here ever repeats a value that may be a secret (`value` is None then).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

Keys = tuple[str | int, ...]
"""Where a value is: the keys and indexes from the top of a file."""

AT_MOST = 100
"""Problems told at once; nobody reads more, and a hostile file may hold a hundred thousand."""

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
_SHOWN = 60


@dataclass(frozen=True)
class Origin:
    """Where a value was written: the file, its line (from 1) and the keys it has in that file."""

    file: Path
    line: int
    keys: Keys = ()

    def __str__(self) -> str:
        return f"{shown_file(self.file)}:{self.line}"


@dataclass(frozen=True)
class Problem:
    """One mistake. `code` names the rule for programs; the other fields are for people."""

    code: str
    origin: Origin
    rule: str
    remedy: str
    value: str | None = None
    suggestion: str | None = None

    @property
    def file(self) -> Path:
        return self.origin.file

    @property
    def line(self) -> int:
        return self.origin.line

    @property
    def path(self) -> str:
        return shown_path(self.origin.keys)

    def __str__(self) -> str:
        """`file:line: path: value: rule; remedy (did you mean x?)`, always one line."""
        parts = [str(self.origin), *(part for part in (self.path, self.value) if part), self.rule]
        hint = f" (did you mean {self.suggestion}?)" if self.suggestion else ""
        return f"{': '.join(parts)}; {self.remedy}{hint}"


class SpecError(Exception):
    """A spec that cannot be used, with every problem found, in the order of files and lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        found = list(dict.fromkeys(problems))
        self.problems: tuple[Problem, ...] = tuple(found[:AT_MOST])
        self.more = len(found) > AT_MOST
        super().__init__(self.problems)

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems]
        return "\n".join([*lines, "and more: these are the first"] if self.more else lines)


def shown_file(file: Path) -> str:
    """The file as one would type it here: relative to the working folder when it lies in it."""
    try:
        return str(file.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(file)


def shown_path(keys: Keys) -> str:
    """Keys as `data.columns.distance` or `task.classes[2]`; an odd key is quoted and cut."""
    text = ""
    for key in keys:
        if isinstance(key, int):
            text += f"[{key}]"
        elif _PLAIN_KEY.fullmatch(key):
            text += f".{key}" if text else key
        else:
            text += f"[{shown_value(key)}]"
    return text


def shown_value(value: object) -> str:
    """A value on one line, cut at 60 characters; a collection only by its kind."""
    if isinstance(value, dict):
        return "(fields)" if value else "(no fields)"
    if isinstance(value, list | tuple):
        return "(a list)" if value else "(an empty list)"
    if value is None:
        return "(nothing)"
    if isinstance(value, str):
        text = json.dumps(value[: _SHOWN + 1], ensure_ascii=False)[1:-1]
        return f'"{text[:_SHOWN]}…"' if len(text) > _SHOWN else f'"{text}"'
    return json.dumps(value) if isinstance(value, bool | int | float) else str(value)[:_SHOWN]


def nearest(word: object, known: Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be, or None."""
    if not isinstance(word, str) or not 1 < len(word) <= 64:
        return None
    near = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return near[0] if near else None
