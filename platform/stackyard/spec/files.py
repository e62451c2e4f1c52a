"""The text of a spec file: a small, ordinary file of visible UTF-8, or the reason why it is not one.

What it is and how large is asked before it is opened, so that a device, a folder or 50 MB cost nothing.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

from stackyard.spec.problems import nearest

SIZE_LIMIT: Final = 256 << 10
"""Bytes in one file. Two thousand columns take about 120 KiB."""

# Everything but line ends, printable characters, and what turns the reading direction or hides (U+2028 to U+2069).
_UNWANTED = re.compile(
    "[^\n\r\x20-\x7e\xa1-\xac\xae-\u1fff\u2010-\u2027\u202f-\u205f\u2070-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_LINE_END = re.compile(r"\r\n|\r|\n")


class Unfit(Exception):
    """A file that is no text of ours: code, rule, remedy, line and the value to blame."""

    def __init__(self, code: str, rule: str, remedy: str, line: int = 1, value: str | None = None) -> None:
        super().__init__(rule)
        self.code, self.rule, self.remedy, self.line, self.value = code, rule, remedy, line, value


def text(file: Path) -> str:
    """The file's text. Raises Unfit."""
    try:
        raw = _bytes(file)
    except FileNotFoundError:
        beside = [each.name for each in file.parent.glob("*.yaml")] if file.parent.is_dir() else []
        near = nearest(file.name, beside)
        hint = f"make it, or name another (did you mean {near}?)" if near else "make it, or name another"
        raise Unfit("file-missing", "there is no such file", hint) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a usable name"
        raise Unfit("file-unreadable", f"cannot be read ({reason})", "check the name and the permissions") from None
    try:
        found = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line, value = raw.count(b"\n", 0, error.start) + 1, f"byte 0x{raw[error.start]:02x}"
        raise Unfit("yaml-encoding", "is not UTF-8", "save the file as UTF-8", line, value) from None
    if unwanted := _UNWANTED.search(found):
        line = len(_LINE_END.findall(found, 0, unwanted.start())) + 1
        raise Unfit(*_about(unwanted[0], unwanted.start()), line, f"U+{ord(unwanted[0]):04X}")
    return found


def _bytes(file: Path) -> bytes:
    about = os.stat(file)
    if stat.S_ISDIR(about.st_mode):
        raise Unfit("file-folder", "is a folder", "name the file in it")
    if not stat.S_ISREG(about.st_mode):
        raise Unfit("file-special", "is not an ordinary file", "name a YAML file")
    with open(file, "rb") as opened:
        raw = opened.read(SIZE_LIMIT + 1) if about.st_size <= SIZE_LIMIT else None
    if raw is None or len(raw) > SIZE_LIMIT:
        raise Unfit("file-large", f"is larger than {SIZE_LIMIT >> 10} KiB", "keep data out of the spec")
    return raw


def _about(character: str, at: int) -> tuple[str, str, str]:
    if character == "\t":
        return "yaml-tab", "is a tab", "indent with spaces; in quoted text write \\t"
    if character == "\ufeff" and at == 0:
        return "yaml-byte-order-mark", "is a byte order mark", "save the file as UTF-8 without it"
    return "yaml-control-character", "is an invisible or control character", "remove it"
