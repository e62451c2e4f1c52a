"""What MLflow should say of a model's versions, given its Releases and gate reports. Pure.

`champion` is the bundle that answers, `challenger` the one that is being rolled out, `previous` the champion before,
to which a rollback would return.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stackyard.store.chain import former
from stackyard.store.releases import Release

LONGEST_TAG = 500
"""Characters of a tag's value; MLflow takes 5,000, people read fewer."""


def aliases(chain: Sequence[Release]) -> dict[str, str | None]:
    """Alias to the digest of a bundle, or to None where it stands for nothing now. `chain`: oldest first."""
    if not chain:
        return {"champion": None, "challenger": None, "previous": None}
    live = chain[-1]
    return {
        "champion": live.champion,
        "challenger": live.arms[0].bundle if live.arms and live.stage != "watch" else None,
        "previous": former(chain),
    }


def tags(
    chain: Sequence[Release], gates: Mapping[str, Mapping[str, Any]], results: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, str]]:
    """Digest of a bundle to what its gates said and how its rollout ended. `gates`, `results`: by run id."""
    found: dict[str, dict[str, str]] = {}
    for run_id, gate in gates.items():
        bundle = results.get(run_id, {}).get("bundle")
        if bundle:
            said = "passed" if gate.get("passed") else "refused"
            found.setdefault(bundle, {}).update(gate=said, gate_reason=str(gate.get("reason") or "")[:LONGEST_TAG])
    for release in chain:
        bundle = results.get(release.candidate or "", {}).get("bundle")
        if bundle and release.outcome:
            found.setdefault(bundle, {}).update(outcome=release.outcome, release=str(release.number))
    return found


def projection(
    tracking_uri: str,
    model: str,
    chain: Sequence[Release],
    gates: Mapping[str, Mapping[str, Any]],
    results: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """What standard input of `python -m stackyard.registry` takes to make MLflow follow."""
    told = {"aliases": aliases(chain), "tags": tags(chain, gates, results)}
    return {"follow": {"tracking_uri": tracking_uri, "model": model, **told}}
