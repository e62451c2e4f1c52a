"""`stackyard status`: gather, judge what is unhealthy, show it; once, live, or as JSON."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stackyard.cli import journal, lent, loop, observe
from stackyard.cli.failures import Failure
from stackyard.cli.stack import StackCard, find

CONTROLLER = "controller"
"""Topic of what the controller notes of itself: whether it could make its last step."""
LONGEST_WAIT = 1800.0
"""Seconds `--wait` waits for a first champion."""


def run(stack: str, *, as_json: bool, watch: bool, wait: bool) -> None:
    """Show stack `stack`. Raises Failure (1) when `--wait` sees no champion, or a plain look finds something wrong."""
    card = find(stack)
    if wait:
        try:
            wait_for_champion(card, quiet=as_json)
        except KeyboardInterrupt:
            raise Failure(
                f"no longer waiting; stack {stack} goes on by itself. "
                f"`stackyard status -s {stack} --wait` waits again, `pulumi destroy -s {stack}` ends it",
                130,
            ) from None
    if watch:
        return _watch(card)
    facts = gather(card)
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        Console().print(render(facts))
    if facts["problems"]:
        raise SystemExit(1)
    return None


def gather(card: StackCard) -> dict[str, Any]:
    """Everything `status` knows, as plain data."""
    decisions, runs = observe.journal(card)
    traffic = observe.traffic(card)
    champion = observe.champion(card)
    facts: dict[str, Any] = {
        "stack": card.stack,
        "stack_id": card.stack_id,
        "addresses": card.addresses,
        "processes": observe.processes(card),
        "champion": champion,
        "replicas": observe.replicas(card),
        "traffic": None if traffic is None else vars(traffic),
        "runs": runs,
        "decisions": decisions,
        "loop": loop.facts(journal.notes(card), champion, decisions),
        "clusters": lent.facts(card),
    }
    facts["problems"] = problems(facts)
    facts["healthy"] = not facts["problems"]
    return facts


def problems(facts: dict[str, Any]) -> list[dict[str, str]]:
    """What is unhealthy, and where to read more."""
    found = [
        {"what": f"process {process['name']} is {process['state']}", "log": process["log"]}
        for process in facts["processes"]
        if process["state"] != "running"
    ]
    logs = {process["name"]: process["log"] for process in facts["processes"]}
    champion = facts["champion"]
    if champion is not None and champion.get("error"):
        found.append({"what": champion["error"], "log": logs.get("controller", "")})
    if champion is not None and not any(replica["ready"] for replica in facts["replicas"]):
        found.append({"what": "a champion is released and no replica is ready", "log": logs.get("serving", "")})
    if champion is not None:
        found += [
            {"what": f"replica {replica['port']}: {replica['load_failure']}", "log": logs.get("serving", "")}
            for replica in facts["replicas"]
            if replica.get("load_failure")
        ]
    looked = next((each for each in facts["decisions"] if each.get("topic", CONTROLLER) == CONTROLLER), None)
    if looked is not None and looked["kind"] == "Failed":
        found.append({"what": f"the controller: {looked['reason']}", "log": logs.get("controller", "")})
    if facts["runs"] and facts["runs"][0]["state"] == "failed" and champion is None:
        newest = facts["runs"][0]
        found.append({"what": f"run {newest['number']} failed: {newest.get('reason')}", "log": newest.get("log", "")})
    return found + loop.problems(facts.get("loop")) + lent.problems(facts.get("clusters", []))


def wait_for_champion(card: StackCard, *, quiet: bool) -> None:
    """Wait until a replica is ready with the champion, telling what happens meanwhile. Raises Failure."""
    console, started, said = Console(stderr=True), time.monotonic(), ""
    while time.monotonic() - started < LONGEST_WAIT:
        champion = observe.champion(card)
        if champion is not None and any(replica["ready"] for replica in observe.replicas(card)):
            return
        decisions, runs = _decided(card)
        line = _headline(champion, decisions, runs)
        if line != said and not quiet:
            console.print(f"  {time.monotonic() - started:4.0f} s  {line}", highlight=False, soft_wrap=True)
        said = line
        if champion is None and _hopeless(decisions):
            raise Failure(f"no champion: {decisions[0]['reason']}")
        time.sleep(0.5)
    raise Failure(f"no champion answered within {LONGEST_WAIT:.0f} s: `stackyard status -s {card.stack}` says more")


def _decided(card: StackCard) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Decisions about the model, and runs, newest first; a look that failed is one, a look that was made is none."""
    decisions, runs = observe.journal(card)
    return [each for each in decisions if each["kind"] != "Looked"], runs


def _hopeless(decisions: list[dict[str, Any]]) -> bool:
    return bool(decisions) and decisions[0]["kind"] == "Wait" and "Change the project" in decisions[0]["reason"]


def _headline(champion: dict[str, Any] | None, decisions: list[dict[str, Any]], runs: list[dict[str, Any]]) -> str:
    if champion is not None:
        if "number" not in champion:
            return str(champion.get("error"))
        return f"release {champion['number']} is published; replicas are loading it"
    if runs and runs[0]["state"] not in ("succeeded", "failed"):
        return f"run {runs[0]['number']}: {runs[0].get('message') or runs[0]['state']}"
    return decisions[0]["reason"] if decisions else "the controller is starting"


def _watch(card: StackCard) -> None:
    console = Console()
    if not console.is_terminal:
        raise Failure("--watch needs a terminal; use --json in a loop instead", code=2)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(render(gather(card)), refresh=True)
            time.sleep(1)


def render(facts: dict[str, Any]) -> RenderableType:
    """The page people read."""
    healthy = facts["healthy"]
    title = Text.assemble(
        ("stack ", "dim"), facts["stack"], "  ", ("healthy", "green") if healthy else ("needs attention", "bold red")
    )
    parts: list[RenderableType] = [title, _champion(facts), _processes(facts), _replicas(facts)]
    if facts.get("loop"):
        parts.append(loop.render(facts["loop"]))
    if facts.get("clusters"):
        parts.append(lent.render(facts["clusters"]))
    if facts["decisions"]:
        parts.append(_decisions(facts))
    parts += [Text.assemble(("! ", "bold red"), f"{p['what']}  ", (p["log"], "dim")) for p in facts["problems"]]
    parts += [Text.assemble((f"{name:8}", "dim"), url) for name, url in facts["addresses"].items()]
    return Group(*parts)


def _champion(facts: dict[str, Any]) -> RenderableType:
    champion = facts["champion"]
    if champion is None:
        run = facts["runs"][0] if facts["runs"] else None
        return Text("champion  none yet" + (f"; run {run['number']}: {run['state']}" if run else ""))
    if "number" not in champion:
        return Text(f"champion  {champion.get('error')}")
    test = (champion.get("metrics") or {}).get("test", {})
    figures = "  ".join(f"{name} {value:.3f}" for name, value in test.items() if isinstance(value, float))
    return Text(
        f"champion  {champion['model']} release {champion['number']}, bundle {champion['champion'][:12]}"
        f", since {champion['created']}\n          {figures}"
    )


def _processes(facts: dict[str, Any]) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("process", "state", "pid", "age", "memory", "log"):
        table.add_column(heading, header_style="dim", overflow="fold")
    for process in facts["processes"]:
        running = process["state"] == "running"
        table.add_row(
            process["name"],
            Text(process["state"], "green" if running else "bold red"),
            str(process["pid"] or ""),
            f"{process['seconds']} s" if running else "",
            f"{process['memory_bytes'] >> 20} MiB" if running else "",
            _short(process["log"]),
        )
    return table


def _short(path: str) -> str:
    """`path` from here when that is shorter: it stays on one line and can be copied."""
    near = os.path.relpath(path)
    return near if len(near) < len(path) else path


def _replicas(facts: dict[str, Any]) -> RenderableType:
    traffic = facts["traffic"] or {}
    ready = [str(replica["port"]) for replica in facts["replicas"] if replica["ready"]]
    line = f"replicas  {len(ready)} ready of {len(facts['replicas'])} up (ports {', '.join(ready) or 'none'})"
    if traffic.get("per_second") is not None:
        line += (
            f"\ntraffic   {traffic['per_second']:.1f}/s, {traffic['total']:.0f} in all, {traffic['errors']:.0f} errors"
        )
    if traffic.get("p50") is not None:
        line += f"; half under {_milliseconds(traffic['p50'])}, 99 % under {_milliseconds(traffic['p99'])}"
    return Text(line)


def _milliseconds(seconds: float) -> str:
    return "more than the largest bucket" if seconds == float("inf") else f"{1000 * seconds:g} ms"


def _decisions(facts: dict[str, Any]) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("decided", "what", "why"):
        table.add_column(heading, header_style="dim", overflow="fold")
    for decision in [each for each in facts["decisions"] if each["kind"] != "Looked"][:5]:
        table.add_row(decision["since"], decision["kind"], decision["reason"])
    return table
