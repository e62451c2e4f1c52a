"""The model card: one page that tells a person what this model is, how good it is, and how to be rid of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xgboost

MOST_FEATURES = 30
_HOW = (
    "A trial learned from the oldest rows and was measured on rows newer than all it had seen. "
    "The model in this bundle is the same recipe, fitted again on all rows, the newest included."
)
_TRIAL = "This is a trial: it learned from the oldest rows and was measured on rows newer than all it had seen."


def importance(model: xgboost.Booster, names: list[str]) -> list[tuple[str, float, int]]:
    """(feature, share of the total gain, splits), largest share first; features never split on have 0."""
    gain, splits = (model.get_score(importance_type=kind) for kind in ("total_gain", "weight"))
    total = sum(float(value) for value in gain.values()) or 1.0  # type: ignore[arg-type]
    found = [
        (name, float(gain.get(f"f{place}", 0.0)) / total, int(splits.get(f"f{place}", 0)))  # type: ignore[arg-type]
        for place, name in enumerate(names)
    ]
    return sorted(found, key=lambda item: (-item[1], item[0]))


def write(
    lineage: Mapping[str, Any],
    facts: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, float]],
    important: list[tuple[str, float, int]],
) -> str:
    """The card in Markdown. `facts` are model, task, label, metric, rows, start, end, rounds and digests."""
    return "\n".join(
        [
            f"# Model card: {facts['model']}",
            "",
            f"Predicts `{facts['label']}` ({facts['task']}); judged by **{facts['metric']}**.",
            "",
            "## Data",
            "",
            f"{facts['rows']} rows from {facts['start']} to {facts['end']} (event time).",
            "",
            "## How good it is",
            "",
            _TRIAL if lineage.get("stage") == "trial" else _HOW,
            "",
            *_metrics_table(metrics),
            "",
            "## What it looks at",
            "",
            "| feature | share of gain | splits |",
            "|---|---:|---:|",
            *[f"| {name} | {share:.1%} | {splits} |" for name, share, splits in important[:MOST_FEATURES]],
            "",
            "## Where it comes from",
            "",
            "| | |",
            "|---|---|",
            *[f"| {name} | `{_short(value)}` |" for name, value in lineage.items() if not isinstance(value, dict)],
            "",
            "## How to take it back",
            "",
            "`stackyard rollback` makes the champion before it the champion again; nothing is built or deployed.",
            "",
        ]
    )


def _metrics_table(metrics: Mapping[str, Mapping[str, float]]) -> list[str]:
    parts = list(metrics)
    names = sorted({name for figures in metrics.values() for name in figures})
    rows = [[name, *(_figure(metrics[part].get(name)) for part in parts)] for name in names]
    head = ["| figure | " + " | ".join(parts) + " |", "|---|" + "---:|" * len(parts)]
    return head + ["| " + " | ".join(row) + " |" for row in rows]


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value == int(value) and abs(value) > 1 else f"{value:.4f}"


def _short(value: Any) -> str:
    return "unknown" if value is None else str(value)
