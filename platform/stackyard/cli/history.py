"""`stackyard history` and `stackyard why`: what was made, what became of it, and on what grounds."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from stackyard.cli import versions
from stackyard.cli.stack import StackCard, find, open_store
from stackyard.cli.versions import Past, Version
from stackyard.store import audit
from stackyard.store.releases import Release

GOOD, BAD = {"live", "replaced", "ready"}, {"refused", "failed", "stopped", "rolled_back", "rejected", "expired"}


def run(stack: str, *, as_json: bool) -> None:
    """Show every version of `stack`'s model and every Release."""
    past = versions.gather(find(stack))
    if as_json:
        chain = [release.model_dump(mode="json", exclude_none=True) for release in past.chain]
        wishes = [wish.model_dump(mode="json", exclude_none=True) for wish in past.wishes]
        document = {"versions": [each.plain() for each in past.versions], "releases": chain, "wishes": wishes}
        print(json.dumps({**document, "refused_wishes": past.refused}, indent=2))
        return
    Console().print(render(past))


def render(past: Past) -> RenderableType:
    """The two tables people read."""
    if not past.versions and not past.chain:
        return Text("nothing has been made yet: `stackyard status --wait` waits for the first model")
    made = _table("version", "made", "why", "learnt from", "figure", "gates", "outcome")
    for version in past.versions:
        made.add_row(*_row(version))
    live = _table("release", "when", "champion", "stage", "what and why")
    for release in past.chain:
        live.add_row(str(release.number), release.created[:16], release.champion[:12], _stage(release), release.reason)
    parts: list[RenderableType] = [made, Text(), live]
    parts += [Text(f"! a wish that is not believed: {refused}", "red") for refused in past.refused]
    return Group(*parts)


def _row(version: Version) -> list[str | Text]:
    figure = "" if version.figure is None else f"{version.figure[0]} {version.figure[1]:.3f}"
    gates = "" if version.gate is None else ("passed" if version.gate.get("passed") else "refused")
    style = "green" if version.outcome in GOOD else "red" if version.outcome in BAD else ""
    outcome = Text.assemble((version.outcome.replace("_", " "), style), f": {version.because}")
    return [str(version.number), version.created[:16], version.reason, version.window, figure, gates, outcome]


def _stage(release: Release) -> str:
    if release.arms:
        return f"{release.stage} {release.arms[0].share:.0%}"
    return (release.outcome or release.stage).replace("_", " ")


def why(stack: str, name: str, *, as_json: bool) -> None:
    """Tell the whole story of one version."""
    card = find(stack)
    past = versions.gather(card)
    told = story(card, past, versions.find(past, name))
    if as_json:
        print(json.dumps(told, indent=2))
        return
    Console().print(render_story(told), highlight=False)


def story(card: StackCard, past: Past, version: Version) -> dict[str, Any]:
    """Everything that is known of one version, as plain data."""
    wishes = [wish for wish in past.wishes if wish.id == version.wish or wish.run == version.run_id]
    entries = audit.entries(open_store(card), card.model, card.public_keys)
    return {
        **version.plain(),
        "result": {name: value for name, value in version.result.items() if name != "kind"},
        "gate": version.gate,
        "stages": [release.model_dump(mode="json", exclude_none=True) for release in version.releases],
        "wishes": [wish.model_dump(mode="json", exclude_none=True) for wish in wishes],
        "log": [entry.model_dump(mode="json") for entry in entries if entry.facts.get("run_id") == version.run_id],
    }


def render_story(told: dict[str, Any]) -> RenderableType:
    """The story as people read it, from its cause to its end."""
    outcome = f"{told['outcome'].replace('_', ' ')}: {told['because']}"
    parts: list[RenderableType] = [Text(f"version {told['version']}  {told['run_id']}", "bold")]
    parts += [_line("asked for", f"{told['created']}  {told['reason']}".strip())]
    parts += [_line("wished", f"{wish['kind']} by {wish['by']}: {wish['because']}") for wish in told["wishes"]]
    parts += [_line(name, text) for name, text in _made(told["result"]) if text]
    gate = told["gate"]
    if gate is None:
        parts.append(_line("gates", "none judged it"))
    else:
        said = "passed" if gate.get("passed") else f"refused, for want of: {gate.get('reason')}"
        parts += [_line("gates", said), _checks(gate.get("checks") or [])]
    for stage in told["stages"]:
        share = f" {stage['arms'][0]['share']:.0%}" if stage.get("arms") else ""
        what = (stage.get("outcome") or stage["stage"]).replace("_", " ") + share
        parts.append(_line(f"release {stage['number']}", f"{stage['created']}  {what}: {stage['reason']}"))
    parts += [
        _line(f"log {entry['number']}", f"{entry['at']}  {entry['what']}: {entry['why']}") for entry in told["log"]
    ]
    return Group(*parts, _line("outcome", outcome))


def _made(result: dict[str, Any]) -> list[tuple[str, str]]:
    window, held = result.get("window") or {}, result.get("holdout") or {}
    figures = (result.get("metrics") or {}).get("test") or {}
    cost = [f"{result['seconds']:.0f} s"] if isinstance(result.get("seconds"), int | float) else []
    cost += [
        f"{result[name]:.2f} {name.replace('_', '-')}"
        for name in ("cpu_hours", "gpu_hours")
        if isinstance(result.get(name), int | float)
    ]
    bundles = [f"{name} {result[name][:12]}" for name in ("bundle", "trial") if result.get(name)]
    return [
        ("learnt from", f"{window.get('start')} to {window.get('end')} (excluded)" if window else ""),
        ("held out", f"{held.get('start')} to {held.get('end')}, {held.get('rows')} rows" if held else ""),
        ("left out", ", ".join(result.get("exclude") or ())),
        ("made", ", ".join([*bundles, *cost])),
        ("figures", "  ".join(f"{name} {value:.4f}" for name, value in figures.items() if isinstance(value, float))),
        ("failure", str(result.get("reason") or "") if result.get("status") == "failed" else ""),
    ]


def _checks(checks: list[dict[str, Any]]) -> Table:
    table = _table("", "check", "figure", "limit", "what was found")
    marks = {True: ("passed", "green"), False: ("FAILED", "bold red"), None: ("reported", "dim")}
    for check in checks:
        mark = marks[check.get("passed")]
        figures = ["" if check.get(name) is None else f"{check[name]:.4g}" for name in ("value", "limit")]
        table.add_row(Text(*mark), str(check.get("name")), *figures, str(check.get("reason")))
    return table


def _line(name: str, text: str) -> Text:
    return Text.assemble((f"{name:12} ", "dim"), text)


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, header_style="dim", overflow="fold")
    return table
