"""What became of every model that was ever made: gathered from the store, with the journal's reasons when it is there.

A version is a training run and what it made. People name it by its number (`7` or `v7`), or by the beginning of its
run id or of a bundle's digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stackyard.cli import journal, outcomes
from stackyard.cli.failures import USAGE, Failure
from stackyard.cli.stack import StackCard, open_store
from stackyard.store import layout, releases
from stackyard.store.documents import DocumentError
from stackyard.store.inbox import Inbox, Wanted, Wish, state
from stackyard.store.objects import Store
from stackyard.store.releases import Release

SHORTEST = 4
"""Characters that tell a digest or a run id."""


@dataclass(frozen=True)
class Version:
    """One training run, what it made, and how that ended."""

    run_id: str
    number: int
    outcome: str
    """live | replaced | running | failed | ungated | refused | ready | rolling | stopped | expired | rolled_back |
    rejected | superseded | unknown."""
    because: str
    """Why the outcome is what it is."""
    created: str = ""
    reason: str = ""
    """Why it was trained."""
    wish: str | None = None
    result: dict[str, Any] = field(default_factory=dict[str, Any])
    gate: dict[str, Any] | None = None
    releases: tuple[Release, ...] = ()
    """Those that roll its candidate out, promote it or give it up, oldest first."""

    @property
    def bundle(self) -> str | None:
        """Digest of the bundle that users meet."""
        return self.result.get("bundle")

    @property
    def window(self) -> str:
        """The dates it learnt from."""
        found = self.result.get("window") or {}
        return f"{found['start']} to {found['end']}" if {"start", "end"} <= set(found) else ""

    @property
    def figure(self) -> tuple[str, float] | None:
        """The name and value of the figure that decides, on rows held out."""
        figures = (self.gate or {}).get("figures") or {}
        name, values = figures.get("metric"), figures.get("candidate") or {}
        if name is None:
            values = (self.result.get("metrics") or {}).get("test") or {}
            name = next((each for each, value in values.items() if isinstance(value, float)), None)
        value = values.get(name) if isinstance(values, dict) else None
        return (str(name), float(value)) if isinstance(value, int | float) else None

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "version": self.number,
            "run_id": self.run_id,
            "outcome": self.outcome,
            "because": self.because,
            "created": self.created,
            "reason": self.reason,
            "wish": self.wish,
            "window": self.result.get("window"),
            "bundle": self.bundle,
            "trial": self.result.get("trial"),
            "figure": None if self.figure is None else dict([self.figure]),
            "gate": None if self.gate is None else {name: self.gate.get(name) for name in ("passed", "reason")},
            "releases": [release.number for release in self.releases],
        }


@dataclass(frozen=True)
class Past:
    """A model's whole past."""

    versions: list[Version]
    chain: list[Release]
    wishes: list[Wish]
    wanted: Wanted
    refused: list[str]
    """Objects in the inbox that are no wishes."""


def gather(card: StackCard) -> Past:
    """Everything that happened to the stack's model. Raises Failure when the store cannot be trusted or is away."""
    store = open_store(card)
    try:
        chain = releases.history(store, card.model, card.public_keys)
    except DocumentError as error:
        raise Failure(str(error)) from None
    inbox = Inbox(store, card.model, operator_public(card))
    wishes = inbox.read()
    wanted = state(wishes)
    known = {run["run_id"]: run for run in journal.runs(card)}
    gates = _gates(store, card.model)
    ids = {*known, *gates, *(release.candidate for release in chain if release.candidate)}
    read = {run_id: _result(store, run_id) for run_id in ids}
    passed = [_number(run_id, known) for run_id, gate in gates.items() if gate.get("passed")]
    newest = max(passed, default=0)
    versions = [
        _version(run_id, known.get(run_id) or {}, read[run_id], gates.get(run_id), chain, wanted, newest)
        for run_id in ids
    ]
    versions.sort(key=lambda version: (version.number, version.run_id))
    return Past(versions, chain, wishes, wanted, [f"{each.key}: {each.reason}" for each in inbox.refused])


def find(past: Past, name: str) -> Version:
    """The one version that `name` means. Raises Failure (usage) when there is none, or more than one."""
    wanted = name.strip().lower()
    number = wanted.removeprefix("v")
    found: list[Version] = []
    if number.isdecimal() and len(number) <= 9:
        found = [version for version in past.versions if version.number == int(number)]
    if not found and len(wanted) >= SHORTEST:
        found = [version for version in past.versions if any(each.startswith(wanted) for each in _names(version))]
    if len(found) == 1:
        return found[0]
    if found:
        raise Failure(f"{name} may mean {', '.join(version.run_id for version in found)}: write more of it", USAGE)
    last = f", the newest is {past.versions[-1].number}" if past.versions else "; none has been made yet"
    raise Failure(f"there is no version {name}{last} (`stackyard history` lists them)", USAGE)


def operator_public(card: StackCard) -> tuple[str, ...]:
    """The public half of the stack's operator key; nothing when this person cannot read it."""
    from stackyard.store.documents import public_text
    from stackyard.store.keys import KeyFileError, ensure_signing_key

    path = Path(card.operator_key)
    try:
        return (public_text(ensure_signing_key(path).public_key()),) if card.operator_key and path.exists() else ()
    except (KeyFileError, OSError, ValueError):
        return ()


def _names(version: Version) -> Iterable[str]:
    return [name for name in (version.run_id, version.bundle, version.result.get("trial")) if name]


def _version(
    run_id: str,
    run: dict[str, Any],
    result: dict[str, Any],
    gate: dict[str, Any] | None,
    chain: list[Release],
    wanted: Wanted,
    newest: int,
) -> Version:
    number = _number(run_id, {run_id: run})
    bundle = result.get("bundle")
    mine = tuple(
        release
        for release in chain
        if release.candidate == run_id
        or (release.candidate is None and bundle is not None and release.champion == bundle)
    )
    outcome, because = outcomes.of(run_id, number, result, gate, mine, chain, wanted, newest)
    return Version(
        run_id=run_id,
        number=number,
        outcome=outcome,
        because=because,
        created=run.get("created", ""),
        reason=run.get("reason", ""),
        wish=run.get("wish"),
        result=result,
        gate=gate,
        releases=mine,
    )


def _number(run_id: str, known: dict[str, dict[str, Any]]) -> int:
    if "number" in (run := known.get(run_id) or {}):
        return int(run["number"])
    parts = run_id.rsplit("-", 2)
    return int(parts[1]) if len(parts) == 3 and parts[1].isdecimal() else 0


def _gates(store: Store, model: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for key in store.keys(f"gates/{model}"):
        gate = _json(store, key)
        if gate:
            found[key.rpartition("/")[2].removesuffix(".json")] = gate
    return found


def _result(store: Store, run_id: str) -> dict[str, Any]:
    return _json(store, layout.run(run_id, "result.json"))


def _json(store: Store, key: str) -> dict[str, Any]:
    try:
        found = json.loads(store.read(key))
    except (KeyError, ValueError, OSError):
        return {}
    return found if isinstance(found, dict) else {}
