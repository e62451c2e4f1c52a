"""Checkpoints that can be trusted: a broken one is skipped, never resumed from, and never a reason to fail.

One object each, `runs/<run>/checkpoints/<stage>-<round>`: the sha256 of the rest, a line of facts as JSON, then
the model's bytes. The digest covers facts and model, and is checked before any parser sees a byte (a flipped bit
in a model file can kill the process that parses it).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from stackyard.store import layout
from stackyard.store.documents import canonical
from stackyard.store.objects import Store, sha256

VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """A stage of a run after `round` boosting rounds."""

    stage: str
    round: int
    model: bytes
    """The booster as `ubj`."""
    history: tuple[float, ...] = ()
    """The watched figure after each round; empty where nothing is watched."""
    done: bool = False
    """Whether the stage ended here."""


class Checkpoints:
    """The checkpoints of one run, for one recipe: those of another recipe are not seen."""

    def __init__(self, store: Store, run_id: str, recipe: str) -> None:
        self._store, self._run, self._recipe = store, run_id, recipe
        self.warnings: list[str] = []
        """What was passed over, and why."""

    def save(self, checkpoint: Checkpoint) -> None:
        """Store `checkpoint`, replacing a broken one of the same round."""
        facts: dict[str, Any] = {
            "kind": "checkpoint",
            "version": VERSION,
            "recipe": self._recipe,
            "stage": checkpoint.stage,
            "round": checkpoint.round,
            "history": list(checkpoint.history),
            "done": checkpoint.done,
        }
        rest = canonical(facts) + b"\n" + checkpoint.model
        self._store.write(self._key(checkpoint.stage, checkpoint.round), sha256(rest).encode() + b"\n" + rest)

    def newest(self, stage: str) -> Checkpoint | None:
        """The newest sound checkpoint of `stage`, or None; a broken one is passed over with a warning."""
        prefix = layout.run(self._run, "checkpoints")
        keys = [key for key in self._store.keys(prefix) if key.rpartition("/")[2].startswith(f"{stage}-")]
        for key in sorted(keys, reverse=True):
            try:
                found = self._read(key)
            except (KeyError, ValueError) as error:
                self.warnings.append(f"checkpoint {key.rpartition('/')[2]} is not used: {error}")
                continue
            if found is not None:
                return found
        return None

    def at(self, stage: str, number: int) -> Checkpoint:
        """The checkpoint of `stage` after `number` rounds. Raises KeyError or ValueError."""
        found = self._read(key := self._key(stage, number))
        if found is None:
            raise ValueError(f"{key} is of another recipe")
        return found

    def clear(self) -> None:
        """Remove every checkpoint of the run."""
        for key in list(self._store.keys(layout.run(self._run, "checkpoints"))):
            self._store.delete(key)

    def _key(self, stage: str, number: int) -> str:
        return layout.run(self._run, f"checkpoints/{stage}-{number:06d}")

    def _read(self, key: str) -> Checkpoint | None:
        digest, _, rest = self._store.read(key).partition(b"\n")
        if sha256(rest).encode() != digest:
            raise ValueError("its bytes are not those that were written")
        head, _, model = rest.partition(b"\n")
        facts = json.loads(head)
        if facts["kind"] != "checkpoint" or facts["version"] > VERSION:
            raise ValueError("of a version this program does not understand")
        if facts["recipe"] != self._recipe:
            return None
        return Checkpoint(facts["stage"], facts["round"], model, tuple(facts["history"]), facts["done"])
