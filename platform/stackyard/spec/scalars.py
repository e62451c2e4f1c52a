"""What an unquoted word in a spec means, with nothing left to guess.

YAML readers disagree: `no` is false to some and text to others, `010` is eight or ten, `1e3` a number or not. The
core schema of YAML 1.2 decides here, and a word on which YAML 1.1 and 1.2 disagree is refused with what to write.
"""

from __future__ import annotations

import re

Scalar = str | int | float | bool | None

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+([eE][-+][0-9]{1,3})?")
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_SWITCH = re.compile(r"yes|no|on|off", re.IGNORECASE)
_UNBOUNDED = re.compile(r"[-+]?\.?(inf|infinity|nan)", re.IGNORECASE)
_DIGIT_WORD = re.compile(r"[-+]?\.?[0-9][0-9a-zA-Z_.:+-]*")
_ODD_NUMBERS = (
    (re.compile(r"[-+]?0[0-9_]+"), "has a leading zero, which some readers take as octal", "write it without the zero"),
    (re.compile(r"[-+]?0[box][0-9a-fA-F_]+"), "is not a decimal number", "write it in decimal"),
    (
        re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"),
        "is a base-60 number to some readers",
        "write a plain number or a duration with its unit (`90m`)",
    ),
    (
        re.compile(r"[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9][0-9_]*)[eE][-+]?[0-9]+"),
        "is a number to some readers and text to others",
        "write it out (`1000`, `0.001`) or as `1.0e-3`",
    ),
    (
        re.compile(r"[-+]?[0-9]*_[0-9_]*(\.[0-9_]*)?"),
        "has an underscore, a digit to some readers",
        "leave out the underscore",
    ),
    (
        re.compile(r"\+[0-9][0-9_]*(\.[0-9_]*)?|[-+]?\.[0-9][0-9_]*|[-+]?[0-9][0-9_]*\.[0-9_]*"),
        "is an unusual way to write a number",
        "write it as `10` or `0.5`",
    ),
)
_MOST_DIGITS = 19


class Refused(ValueError):
    """A word with two meanings. Carries the code, the rule and the remedy."""

    def __init__(self, code: str, rule: str, remedy: str) -> None:
        super().__init__(rule)
        self.code, self.rule, self.remedy = code, rule, remedy


def plain(text: str) -> Scalar:
    """The value of an unquoted word. Raises Refused where readers disagree or a number is out of range."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _SWITCH.fullmatch(text):
        raise Refused(
            "yaml-switch", "is a truth value to some readers and text to others", "write true or false, or quote it"
        )
    if _UNBOUNDED.fullmatch(text):
        raise Refused("yaml-not-finite", "is not a finite number", "write a number, or quote it if it is text")
    return _number(text) if _DIGIT_WORD.fullmatch(text) else text


def _number(text: str) -> Scalar:
    if _INTEGER.fullmatch(text):
        if len(text.lstrip("-")) > _MOST_DIGITS or not -(2**63) <= int(text) < 2**63:
            raise Refused(
                "yaml-huge-number", "does not fit in 64 bits", "write a smaller number, or quote it if it is text"
            )
        return int(text)
    if _FLOAT.fullmatch(text):
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise Refused("yaml-not-finite", "is beyond the largest number", "write a smaller number")
        return value
    for pattern, rule, remedy in _ODD_NUMBERS:
        if pattern.fullmatch(text):
            raise Refused("yaml-odd-number", rule, f"{remedy}, or quote it if it is text")
    return text
