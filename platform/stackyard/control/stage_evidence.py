"""From what monitoring gathered of a rollout's stage to what the verdict on it takes, and to figures for people."""

from __future__ import annotations

from typing import Any

from stackyard.control.stage_facts import ArmFacts, Paired, StageEvidence
from stackyard.monitoring.stage_rows import ArmEvidence, StageRows


def of(rows: StageRows) -> StageEvidence:
    """What `control.rollout.decide` takes."""
    labels, champion, challenger = rows.paired
    return StageEvidence(
        champion=_facts(rows.champion),
        challenger=_facts(rows.challenger),
        assigned=rows.assigned,
        complete_until=rows.complete_until,
        paired=Paired(labels, champion, challenger) if len(labels) else None,
        fused=rows.fused,
    )


def _facts(arm: ArmEvidence) -> ArmFacts:
    return ArmFacts(
        requests=arm.requests,
        outcomes=arm.outcomes,
        slow=arm.slow,
        outputs=arm.outputs,
        labelled=len(arm.labels),
        labels=arm.labels,
        answers=arm.answers,
    )


def figures(rows: StageRows) -> dict[str, Any]:
    """What the verdict rests on, for people."""
    arms = {"champion": rows.champion, "challenger": rows.challenger}
    return {
        **{
            name: {
                "requests": arm.requests,
                "outcomes": dict(arm.outcomes),
                "slow": arm.slow,
                "labelled": len(arm.labels),
            }
            for name, arm in arms.items()
        },
        "assigned": list(rows.assigned),
        "paired": len(rows.paired[0]),
        "fused": rows.fused,
        "complete_until": rows.complete_until.isoformat(),
    }
