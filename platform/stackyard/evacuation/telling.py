"""What the saver found, as plain data for programs and as sentences for people."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any

from stackyard.evacuation import asking
from stackyard.evacuation.errors import EvacuationError, shown
from stackyard.evacuation.restoring import Restored
from stackyard.evacuation.saving import Saved
from stackyard.evacuation.verifying import Verified
from stackyard.evacuation.versions import Found
from stackyard.evacuation.walking import Unsaved

LINES = 20
"""Losses that a person is shown; programs get all that were named."""


def losses(found: Iterable[Unsaved]) -> list[dict[str, str]]:
    """Each with path (escaped), code and reason."""
    return [{"path": shown(each.path), "code": each.code, "reason": each.reason} for each in found]


def version(found: Found) -> dict[str, Any]:
    """A version's figures."""
    fields = found.version.model_dump(mode="json", exclude={"root", "report", "previous"})
    return {**fields, "digest": found.digest}


def saved(outcome: Saved) -> dict[str, Any]:
    """What a save came to; `ok` unless something could not be saved."""
    return {
        "ok": not outcome.unsaved,
        "made": outcome.made,
        "version": version(outcome.newest),
        "losses": losses(outcome.unsaved),
        "left_out": [{"path": shown(each.path), "rule": each.rule} for each in outcome.left_out],
        "repositories": [
            {"path": r.path, "uncommitted": r.uncommitted, "unpushed": r.unpushed, "stashed": r.stashed}
            for r in outcome.repositories
        ],
        "read": outcome.read,
        "stored": outcome.stored,
        "seconds": outcome.seconds,
    }


def verified(proof: Verified) -> dict[str, Any]:
    """What was read back."""
    return {
        "ok": proof.whole,
        "version": version(proof.found),
        "pieces": proof.pieces,
        "size": proof.size,
        "losses": [{"path": shown(path or b""), "code": "damaged", "reason": reason} for path, reason in proof.damaged],
    }


def restored(outcome: Restored) -> dict[str, Any]:
    """What came back."""
    return {
        "ok": not outcome.damaged,
        "version": version(outcome.found),
        "target": str(outcome.target),
        "entries": outcome.entries,
        "size": outcome.size,
        "losses": [{"path": shown(p), "code": "damaged", "reason": reason} for p, reason in outcome.damaged],
        "lesser": [{"path": shown(p), "reason": reason} for p, reason in outcome.lesser],
    }


class Progress:
    """Says on standard error how far a long restore is, every few seconds."""

    def __init__(self, found: Found, every: float = 2.0) -> None:
        self._found, self._every, self._next = found.version, every, time.monotonic() + every

    def __call__(self, so_far: Restored) -> None:
        """Say it, if it is time."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._every
        done, size = f"{so_far.entries} of {self._found.entries} entries", f"{so_far.size / 1e6:.0f}"
        print(f"restore: {done}, {size} of {self._found.size / 1e6:.0f} MB", file=sys.stderr, flush=True)


def refusal(error: Exception) -> dict[str, Any]:
    """Why it did not go, and what would be lost; `cause` is the code of what stopped it, where something did."""
    named: list[Unsaved] = getattr(error, "losses", [])
    code, cause = (each.code if isinstance(each, EvacuationError) else None for each in (error, error.__cause__))
    told = {"code": code or "failed", "cause": cause, "reason": str(error)}
    return {"ok": False, **told, "losses": losses(named), "more": getattr(error, "more", 0)}


def sentences(verb: str, outcome: dict[str, Any]) -> str:
    """The same for people."""
    lines = [_headline(verb, outcome)]
    named = outcome.get("losses") or []
    lines += [f"  {each['path']}: {each['reason']}" for each in named[:LINES]]
    if (more := len(named) - LINES) > 0 or outcome.get("more"):
        lines.append(f"  and {max(more, 0) + outcome.get('more', 0)} more (--json names them)")
    lines += [
        f"  repository {each['path']}: {_count(each['uncommitted'])} uncommitted, {_count(each['unpushed'])} unpushed, "
        f"{_count(each['stashed'])} stashed; saved like everything else"
        for each in outcome.get("repositories", [])
    ]
    lines += [f"  {each['path']}: {each['reason']}" for each in outcome.get("lesser", [])[:LINES]]
    lines += [f"  {line}" for line in asking.sentences(outcome.get("asked", []))]
    return "\n".join(lines)


def _headline(verb: str, outcome: dict[str, Any]) -> str:
    if "reason" in outcome:
        return f"{verb}: {outcome['reason']}"
    number = (outcome.get("version") or {}).get("number")
    match verb:
        case "save":
            made = f"version {number}" if outcome["made"] else f"nothing new since version {number}"
            out = f", {len(outcome['left_out'])} left out" if outcome["left_out"] else ""
            bad = f", {len(outcome['losses'])} could not be saved as they are" if outcome["losses"] else ""
            return f"{made}: {outcome['read']} files read, {outcome['stored']} bytes stored{out}{bad}"
        case "status" if number is None:
            return "nothing was ever saved"
        case "status":
            age = f"newest version {number}; what is older than {outcome['age']:.0f} s is safe"
            now = outcome.get("unsaved_now")
            return f"{age}; {'the workspace is gone' if now is None else f'{now} entries are newer'}"
        case "verify":
            bad = f"{len(outcome['losses'])} damaged" if outcome["losses"] else "nothing damaged"
            return f"version {number}: {outcome['pieces']} pieces, {outcome['size']} bytes read back, {bad}"
        case "freeze" | "thaw":
            return f"{verb}: {len(outcome['frozen' if verb == 'freeze' else 'thawed'])} processes"
        case "evacuate":
            return f"sealed by {outcome['receipt']}: {outcome['files']} files, {outcome['size']} bytes are safe"
        case "suspend":
            return f"version {number} holds everything; {len(outcome['frozen'])} processes stand still until they end"
        case "receipt":
            given = outcome["receipt"] or outcome["discard"]
            return f"it may go: {given['place']}"
        case "discard":
            return f"{outcome['discard']}: what is not saved may be lost"
        case "restore":
            bad = f", {len(outcome['losses'])} damaged" if outcome["losses"] else ""
            return f"version {number} restored to {outcome['target']}: {outcome['entries']} entries{bad}"
        case _:
            return f"{verb}: done"


def _count(number: int | None) -> str:
    return "?" if number is None else str(number)
