"""Errors that a person can mend: one sentence, an exit code, no traceback."""

from __future__ import annotations

import sys

FAILED, USAGE, INVALID_SPEC, BUSY, POLICY = 1, 2, 3, 4, 5


class Failure(Exception):
    """Something that ends the command; `code` is the exit code."""

    def __init__(self, sentence: str, code: int = FAILED) -> None:
        super().__init__(sentence)
        self.code = code


def report(failure: Failure) -> int:
    """Print `failure` to standard error; returns the exit code."""
    print(f"stackyard: {failure}", file=sys.stderr)
    return failure.code
