"""What goes wrong with data or with the project's own code, told as one clear sentence each.

A person who wrote a source function wants its file and line, not a traceback of ours.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stackyard.spec.problems import shown_file

if TYPE_CHECKING:
    from stackyard.data.checks import Violation


class DataError(Exception):
    """Data, a snapshot or user code that cannot be used; `str` is for people.

    `violations` lists every broken promise of the spec, or is empty when something else went wrong.
    """

    def __init__(self, message: str, violations: Sequence[Violation] = ()) -> None:
        super().__init__(message)
        self.violations = tuple(violations)


def blame(error: BaseException, folder: Path) -> str:
    """`file:line: Type: message` of an error raised under user code; the innermost line that lies in `folder`."""
    what = f"{type(error).__name__}: {_first_line(error)}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{shown_file(Path(error.filename))}:{error.lineno}: {type(error).__name__}: {error.msg}"
    root = folder.resolve()
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).resolve().is_relative_to(root):
            return f"{shown_file(Path(frame.filename))}:{frame.lineno}: {what}"
    return what


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["(no message)"])[0][:500]
