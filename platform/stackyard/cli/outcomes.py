"""How a version ended, in one word and with the reason: derived from what is stored, never noted anywhere."""

from __future__ import annotations

from typing import Any

from stackyard.store.inbox import Wanted
from stackyard.store.releases import Release


def of(
    run_id: str,
    number: int,
    result: dict[str, Any],
    gate: dict[str, Any] | None,
    mine: tuple[Release, ...],
    chain: list[Release],
    wanted: Wanted,
    newest: int,
) -> tuple[str, str]:
    """How far run `run_id` came, in one word, and why.

    `mine`: the Releases about its candidate; `newest`: the greatest number of a version that passed its gates.
    """
    status, bundle = result.get("status"), result.get("bundle")
    if bundle is not None and chain and chain[-1].champion == bundle:
        return "live", next(release.reason for release in chain if release.champion == bundle)
    ended = next((release for release in reversed(mine) if release.outcome), None)
    if ended is not None and ended.outcome != "promoted":
        return str(ended.outcome), ended.reason
    if bundle is not None and (after := _replaced(chain, bundle)) is not None:
        return "replaced", after.reason
    if mine and chain and mine[-1].number == chain[-1].number and mine[-1].outcome is None:
        return "rolling", mine[-1].reason
    if status is None:
        return "running", str(result.get("message") or "it has no result yet")
    if status != "succeeded":
        return "failed", str(result.get("reason") or "it failed")
    if run_id in wanted.rejected:
        return "rejected", f"{wanted.rejected[run_id].because} ({wanted.rejected[run_id].by})"
    if gate is None:
        return "ungated", "its gates have not been judged yet"
    if not gate.get("passed"):
        return "refused", str(gate.get("reason") or "a gate failed")
    if number < newest:
        return "superseded", f"version {newest} is newer and passed its gates"
    return "ready", str(gate.get("reason") or "it passed its gates")


def _replaced(chain: list[Release], bundle: str) -> Release | None:
    """The Release that put another champion in the place of `bundle`, if it was ever champion."""
    for before, after in zip(reversed(chain[:-1]), reversed(chain[1:]), strict=True):
        if before.champion == bundle != after.champion:
            return after
    return None
