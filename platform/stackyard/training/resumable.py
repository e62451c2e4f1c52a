"""A training in a workspace that goes on where it was: its checkpoints are files in a folder of that workspace.

    with Resumable(folder, name="trees") as training:
        state = training.newest() or State(0, arrays=first())
        while state.step < steps:
            state = one_more(state)
            training.at(state.step)
            if training.asked() or state.step % 100 == 0:
                training.save(state)

A checkpoint is there whole or not at all; one that is damaged is passed over with a warning, for the one before it.
While it runs, the training is announced beside the workspace (`stackyard.store.trainings`), so that whoever is about
to stop it can ask for a checkpoint first.
"""

from __future__ import annotations

import contextlib
import glob
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from stackyard.store import trainings
from stackyard.training.states import Corrupt, State, decode, encode

_SUFFIX = ".checkpoint"
_HOLD, _LOOK = 60.0, 0.05
"""Seconds that a training waits at the most once it answered, and between two looks whether it still has to."""


class Resumable:
    """The checkpoints of one training, and its place among those that run."""

    def __init__(
        self, folder: Path, name: str = "training", *, keep: int = 3, beside: Path | None = None, often: float = 0.2
    ) -> None:
        """`keep`: how many checkpoints stay. `beside`: where it is announced; None: where the environment says.
        `often`: seconds between two words of how far it is."""
        self._folder, self._name, self._keep = folder, name, max(1, keep)
        self._beside = beside or trainings.found_by(os.environ)
        self._place = None if self._beside is None else trainings.place(self._beside)
        self._often = often
        self._told, self._next = trainings.here(name, 0), 0.0
        self.warnings: list[str] = []
        """What was passed over, and why."""

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        for part in self._named(f".{self._name}-", ".part"):
            part.unlink(missing_ok=True)
        self._tell()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._place is not None:
            self._place.unlink(missing_ok=True)

    def newest(self) -> State | None:
        """The newest sound checkpoint, from which this training then goes on; None without any."""
        for path in reversed(self.checkpoints()):
            try:
                found = decode(path.read_bytes())
            except (OSError, Corrupt, ValueError, KeyError) as error:
                self.warnings.append(f"checkpoint {path.name} is not used: {error}")
                print(f"warning: {self.warnings[-1]}", file=sys.stderr, flush=True)
                continue
            self._told = replace(self._told, began=found.step, step=found.step, saved=found.step)
            self._tell()
            return found
        return None

    def checkpoints(self) -> list[Path]:
        """The files, oldest step first, sound or not."""
        return self._named(f"{self._name}-", _SUFFIX)

    def at(self, step: int) -> None:
        """Say that `step` steps are done."""
        self._told = replace(self._told, step=step)
        if time.monotonic() >= self._next:
            self._tell()

    def asked(self) -> bool:
        """Whether somebody waits for a checkpoint."""
        if self._beside is None:
            return False
        wanted = trainings.requested(self._beside)
        return wanted is not None and wanted != self._told.answered

    def save(self, state: State) -> Path:
        """Keep `state`, answer who asked for it, and take the oldest away. Returns the file.

        Who asked is about to stop everything: until he does, or no longer asks, this waits, a minute at the most.
        """
        wanted = trainings.requested(self._beside) if self._beside is not None and self.asked() else None
        path = self._folder / f"{self._name}-{state.step:012d}{_SUFFIX}"
        _write_whole(path, self._folder / f".{self._name}-{os.getpid()}.part", encode(state))
        # What is of a later step was passed over: it is damaged, and must not push out what is sound.
        for old in [each for each in self.checkpoints() if each.name <= path.name][: -self._keep]:
            old.unlink(missing_ok=True)
        answered = self._told.answered if wanted is None else wanted
        self._told = replace(self._told, step=state.step, saved=state.step, answered=answered)
        self._tell()
        end = time.monotonic() + _HOLD
        while wanted is not None and self._beside is not None and time.monotonic() < end:
            if trainings.requested(self._beside) != wanted:
                break
            time.sleep(_LOOK)
        return path

    def _named(self, before: str, after: str) -> list[Path]:
        """Files with a number between the two, in order: one training's name may begin another's."""
        found = self._folder.glob(f"{glob.escape(before)}*{after}")
        return sorted(path for path in found if path.name[len(before) : -len(after)].isdecimal())

    def _tell(self) -> None:
        if self._place is not None:
            with contextlib.suppress(OSError):  # a full disk beside the workspace is no reason to end a training
                trainings.announce(self._place, self._told)
        self._next = time.monotonic() + self._often


@dataclass(frozen=True)
class Cursor:
    """How far the data was read: rows before `position` of pass `epoch` are done."""

    epoch: int = 0
    position: int = 0


class Minibatches:
    """Rows in a new order each epoch, which depends on `seed` and the epoch alone: a cursor says all."""

    def __init__(self, rows: int, size: int, seed: int) -> None:
        self._rows, self._size = rows, size
        self._order = lru_cache(maxsize=1)(lambda epoch: np.random.default_rng([seed, epoch]).permutation(rows))

    def after(self, cursor: Cursor) -> tuple[np.ndarray, Cursor]:
        """The indices [<= size] of the next minibatch, and the cursor behind it."""
        end = min(cursor.position + self._size, self._rows)
        found = self._order(cursor.epoch)[cursor.position : end]
        return found, Cursor(cursor.epoch + 1) if end == self._rows else Cursor(cursor.epoch, end)

    def from_(self, cursor: Cursor) -> Iterator[tuple[np.ndarray, Cursor]]:
        """Minibatches without end."""
        while True:
            found, cursor = self.after(cursor)
            yield found, cursor


def _write_whole(path: Path, scratch: Path, data: bytes) -> None:
    with scratch.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
