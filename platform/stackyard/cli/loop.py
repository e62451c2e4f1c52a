"""The closed loop's part of `stackyard status`: verdicts, quarantined days, the rollout, the next retraining, alerts.

Everything is read from what others noted; what is not there yet is left out.
"""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

VERDICTS = ("performance", "drift", "predictions", "labels")
WORDS = {"ok": ("ok", "green"), "alarm": ("ALARM", "bold red"), "not_enough_data": ("not enough data", "yellow")}


def facts(
    notes: dict[str, Any], champion: dict[str, Any] | None, decisions: list[dict[str, Any]]
) -> dict[str, Any] | None:
    """What the loop knows and waits for, as plain data; None before it has noted anything."""
    verdicts = _mapping(notes.get("verdicts"))
    alerts = _mapping(notes.get("alerts"))
    found = {
        "pulse": notes.get("pulse"),
        "verdicts": {name: verdicts[name] for name in (*VERDICTS, "slices") if name in verdicts},
        "quarantined": _quarantined(verdicts),
        "labelled_until": verdicts.get("labelled_until"),
        "rollout": _rollout(notes, champion or {}),
        "retraining": _retraining(notes, decisions),
        "candidates": notes.get("candidates"),
        "alerts": list(_mapping(alerts.get("open")).values()),
        "undelivered": _mapping(alerts.get("failures")),
    }
    return found if any(found.values()) else None


def problems(found: dict[str, Any] | None) -> list[dict[str, str]]:
    """Messages that reach nobody: what the person who looks here should mend."""
    return [
        {"what": f"{destination} takes no messages: {_mapping(failure).get('why')}", "log": ""}
        for destination, failure in (found or {}).get("undelivered", {}).items()
    ]


def render(found: dict[str, Any]) -> RenderableType:
    """The lines people read."""
    parts: list[RenderableType] = []
    judged = _judged(found["verdicts"])
    if judged.row_count:
        parts.append(judged)
    parts += [
        Text.assemble(("quarantine  ", "dim"), (day["day"], "red"), f"  {day['reason']}")
        for day in found["quarantined"]
    ]
    rollout, retraining = found["rollout"], found["retraining"]
    if rollout is not None:
        parts.append(Text.assemble(("rollout     ", "dim"), rollout["what"]))
        if rollout["waits_for"]:
            parts.append(Text(f"            {rollout['waits_for']}"))
        parts += [Text(f"            {_check(check)}") for check in rollout["checks"]]
    if retraining is not None:
        parts.append(Text.assemble(("retraining  ", "dim"), f"{retraining['decision']}: {retraining['reason']}"))
    for alert in found["alerts"]:
        line = f"{alert.get('what')}, since {str(alert.get('since'))[:16]}"
        todo = f"; {alert['todo']}" if alert.get("todo") else ""
        parts.append(Text.assemble(("alert       ", "dim"), (line, "red"), todo))
    return Group(*parts)


def _judged(verdicts: dict[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("verdict", "", "why", "since"):
        table.add_column(heading, header_style="dim", overflow="fold")
    for name in VERDICTS:
        verdict = _mapping(verdicts.get(name))
        if verdict:
            _add(table, name, verdict)
    slices = [_mapping(each) for each in verdicts.get("slices") or []]
    for each in slices:
        if each.get("state") == "alarm":
            _add(table, " ".join(str(each.get(name, "")) for name in ("column", "value")).strip() or "slice", each)
    unjudged = sum(1 for each in slices if each.get("state") == "not_enough_data")
    if unjudged:
        table.add_row("slices", Text("not enough data", "yellow"), f"{unjudged} of {len(slices)} are not judged", "")
    return table


def _add(table: Table, name: str, verdict: dict[str, Any]) -> None:
    state = str(verdict.get("state"))
    since = str(verdict.get("since") or "")[:16]
    table.add_row(name, Text(*WORDS.get(state, (state, ""))), str(verdict.get("reason") or ""), since)


def _quarantined(verdicts: dict[str, Any]) -> list[dict[str, str]]:
    """Days whose data are not believed, each with its reasons."""
    reasons: dict[str, str] = {}
    for day in verdicts.get("quality") or []:
        findings = [_mapping(each) for each in _mapping(day).get("findings") or []]
        reasons[str(_mapping(day).get("day"))] = "; ".join(str(each.get("reason")) for each in findings)
    days = verdicts.get("quarantined")
    return [{"day": str(day), "reason": reasons.get(str(day), "")} for day in (reasons if days is None else days)]


def _rollout(notes: dict[str, Any], champion: dict[str, Any]) -> dict[str, Any] | None:
    """The stage that is under way, and what it waits for."""
    arms = champion.get("arms") or []
    if not arms:
        return None
    number, candidate = champion.get("number"), champion.get("candidate")
    verdict = _mapping(notes.get("stage") or notes.get("rollout"))
    if not str(verdict.get("key", f"{number}@")).startswith(f"{number}@"):
        verdict = {}
    step = f", stage {champion['step'] + 1}" if isinstance(champion.get("step"), int) else ""
    what = f"{candidate} as {champion.get('stage')} {arms[0]['share']:.0%}{step}, since {champion.get('created')}"
    waits = str(verdict.get("reason") or "")
    until = verdict.get("until")
    return {
        "candidate": candidate,
        "stage": champion.get("stage"),
        "step": champion.get("step"),
        "share": arms[0]["share"],
        "since": champion.get("created"),
        "what": what,
        "action": verdict.get("action"),
        "waits_for": f"{waits} (until {until})" if waits and until else waits,
        "checks": [_mapping(check) for check in verdict.get("checks") or []],
    }


def _retraining(notes: dict[str, Any], decisions: list[dict[str, Any]]) -> dict[str, str] | None:
    """The newest decision on retraining."""
    policy = _mapping(notes.get("policy"))
    if policy.get("reason"):
        decision = str(policy.get("decision") or policy.get("kind") or policy.get("action") or "decided")
        return {"decision": decision, "reason": str(policy["reason"]), "since": str(policy.get("since") or "")}
    newest = next((each for each in decisions if each.get("topic") == "training"), None)
    return (
        None if newest is None else {"decision": newest["kind"], "reason": newest["reason"], "since": newest["since"]}
    )


def _check(check: dict[str, Any]) -> str:
    mark = {True: "holds", False: "FAILS", None: "open"}[check.get("passed")]
    return f"{mark:6} {check.get('name')}: {check.get('reason')}"


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
