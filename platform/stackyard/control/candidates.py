"""What became of every retraining: derived from runs, gates, Releases and wishes, never remembered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from stackyard.control.world import GateSeen, ReleaseSeen, RunSeen, World

State = Literal[
    "ungated", "refused", "ready", "rolling", "promoted", "stopped", "expired", "rolled_back", "rejected", "superseded"
]

Ended = dict[str, ReleaseSeen]
"""Run id to the newest Release that says what became of its candidate."""

BROUGHT_NOTHING: frozenset[State] = frozenset(
    {"refused", "stopped", "expired", "rolled_back", "rejected", "superseded"}
)
OPEN: frozenset[State] = frozenset({"ungated", "ready", "rolling"})


@dataclass(frozen=True)
class Candidate:
    """A model that a retraining made, and how far it came."""

    run: RunSeen
    state: State
    reason: str
    gate: GateSeen | None = None

    @property
    def bundle(self) -> str:
        """Digest of the bundle that would be promoted."""
        return self.run.bundle or ""

    @property
    def promoted(self) -> bool | None:
        """Whether it became the champion; None while that is open."""
        return None if self.state in OPEN else self.state not in BROUGHT_NOTHING


def candidates(world: World) -> list[Candidate]:
    """Every succeeded retraining, oldest first."""
    runs = [run for run in world.runs if run.challenger and run.state == "succeeded" and run.bundle]
    live = world.chain[-1] if world.chain else None
    ended: Ended = {release.candidate: release for release in world.chain if release.candidate and release.outcome}
    # Whatever became of the newer one: the older one's gates compared it with a champion of long ago.
    newest = max((run.number for run in runs if _passed(world, run)), default=0)
    return [_candidate(world, run, live, ended.get(run.run_id), newest) for run in runs]


def named(found: Iterable[Candidate], run_id: str | None) -> Candidate | None:
    """The candidate of run `run_id`."""
    return next((each for each in found if each.run.run_id == run_id), None)


def _candidate(
    world: World, run: RunSeen, live: ReleaseSeen | None, ended: ReleaseSeen | None, newest: int
) -> Candidate:
    gate = world.gates.get(run.run_id)
    if live is not None and live.candidate == run.run_id and live.outcome is None and live.step is not None:
        return Candidate(run, "rolling", f"release {live.number}, stage {live.step}", gate)
    if ended is not None:
        state: State = ended.outcome  # type: ignore[assignment]
        return Candidate(run, state, f"release {ended.number}", gate)
    if run.run_id in world.wishes.rejected:
        return Candidate(run, "rejected", world.wishes.rejected[run.run_id], gate)
    if gate is not None and not gate.passed:
        return Candidate(run, "refused", gate.reason, gate)
    if run.number < newest:
        return Candidate(run, "superseded", f"version {newest} is newer and passed its gates", gate)
    if gate is None:
        return Candidate(run, "ungated", "its gates have not been judged yet")
    if gate.champion not in (None, world.champion) and not _shadowed(world):
        return Candidate(run, "superseded", "its gates compared it with another champion, and no shadow does", gate)
    return Candidate(run, "ready", gate.reason, gate)


def _shadowed(world: World) -> bool:
    """Whether a stage compares candidates with the champion of its time."""
    return world.loop is not None and any(stage.kind == "shadow" for stage in world.loop.rollout.stages)


def _passed(world: World, run: RunSeen) -> bool:
    gate = world.gates.get(run.run_id)
    return gate is not None and gate.passed
