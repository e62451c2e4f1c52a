"""What is known of a leased cluster that is being taken away: copies of what lay beside its workspace.

    PENDING/ledger.json        what was expected of it
           /instance.json      who lived in the workspace
           /evacuation.json    where and how it was saved
           /usage.jsonl, seen.json
           /discards/          a consent that was given while the store was away
           /before.json        what was found in the workspace before it went

The folder is made before anything is removed and goes when a certificate was given, so a kill in between costs nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackyard.certificates import ledger as ledgers
from stackyard.certificates.ledger import Ledger
from stackyard.evacuation.settings import SaverSettings


@dataclass(frozen=True)
class Evidence:
    """A ledger and what lies beside it."""

    folder: Path
    ledger: Ledger
    raw: dict[str, Any]
    """The ledger as it was written, which is what its digest is of."""
    settings: SaverSettings | None
    """Of the saver, for this instance and generation; None when they were lost."""
    opened: bool
    """Whether anybody could ever work in it."""
    events: list[dict[str, Any] | None]
    seen: dict[str, Any] | None
    before: dict[str, Any]


def read(ledger: Path) -> Evidence:
    """The evidence of which `ledger` is the file. Raises LedgerError."""
    raw = _plain(ledger)
    if not isinstance(raw, dict):
        raise ledgers.LedgerError(f"{ledger} is not there, or no ledger")
    folder, known = ledger.parent, ledgers.read(raw, str(ledger))
    record = _plain(folder / "instance.json")
    record = record if isinstance(record, dict) else {}
    settings = _settings(_plain(folder / "evacuation.json"), folder, record or {"instance": known.instance})
    seen, before = _plain(folder / "seen.json"), _plain(folder / "before.json")
    return Evidence(
        folder,
        known,
        raw,
        settings if known.subject == "cluster" else None,
        record.get("generation") != 0,
        _lines(folder / "usage.jsonl"),
        seen if isinstance(seen, dict) else None,
        before if isinstance(before, dict) else {},
    )


def _settings(told: Any, folder: Path, record: dict[str, Any]) -> SaverSettings | None:
    """The saver's settings: `record` says who lived there, and the saver's own memory is no longer where it was."""
    if not isinstance(told, dict):
        return None
    known = {name: record[name] for name in ("instance", "generation") if record.get(name) is not None}
    try:
        return SaverSettings.model_validate({**told, **known, "state": str(folder)})
    except ValueError:
        return None


def _plain(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _lines(path: Path) -> list[dict[str, Any] | None]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [_line(line) for line in lines if line.strip()]


def _line(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
