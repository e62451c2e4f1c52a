"""What `stackyard status` says of leased clusters, and when it says that one needs attention."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lent import Lent
from lent import lent as a_lent_one
from stackyard.cli import lent
from stackyard.cli.stack import StackCard
from stackyard.evacuation.saving import Saver


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Lent]:
    made = a_lent_one(tmp_path)
    made.write("processes.json", [{"name": "lease-bench-head"}, {"name": "lease-bench-saver"}])
    made.write("seeded.json", {"version": 1, "entries": []})
    yield made
    made.clear()


def card(bench: Lent) -> StackCard:
    return StackCard.model_construct(stack_id=bench.settings.stack_id, state=str(bench.folder.parents[1]), processes=[])


def facts(bench: Lent, later: float = 0.0) -> dict[str, Any]:
    (found,) = lent.facts(card(bench), dt.datetime.now(dt.UTC) + dt.timedelta(seconds=later))
    json.dumps(found)
    return found


def run(bench: Lent, monkeypatch: pytest.MonkeyPatch, *names: str) -> list[int]:
    """Processes of the cluster, by these names."""
    monkeypatch.setenv("STACKYARD_STACK_ID", bench.settings.stack_id)
    pids = []
    for name in names:
        monkeypatch.setenv("STACKYARD_PROCESS", name)
        pids.append(bench.start().pid)
    return pids


def said(bench: Lent) -> str:
    console = Console(width=240, record=True, file=None)
    with console.capture() as shown:
        console.print(lent.render([facts(bench)]))
    return shown.get()


def test_an_open_cluster_says_how_much_of_it_is_safe_when_it_ends_and_what_runs(
    bench: Lent, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, saver = run(bench, monkeypatch, "lease-bench-head", "lease-bench-saver")
    Saver(bench.settings).save()
    bench.lease(notebook="http://127.0.0.1:7777")
    found = facts(bench, later=60.0)
    assert (found["state"], found["owner"], found["ends_by"], found["late"]) == ("open", "ada", "ttl", False)
    assert 60.0 <= found["age"] < 70.0
    assert found["left"] == pytest.approx(30 * 86_400 - 3600, abs=30)
    assert [(each["name"], each["state"], each["pid"]) for each in found["processes"]] == [
        ("lease-bench-head", "running", head),
        ("lease-bench-saver", "running", saver),
    ]
    assert lent.problems([found]) == []
    assert "http://127.0.0.1:7777/lab" in said(bench)
    assert "saved every 5m" in said(bench)


def forgotten(bench: Lent, _pids: list[int]) -> None:
    """Nothing was saved for an hour."""


def dead(bench: Lent, pids: list[int]) -> None:
    Saver(bench.settings).save()
    os.kill(pids[0], signal.SIGKILL)
    bench.processes[0].wait()


def frozen(bench: Lent, pids: list[int]) -> None:
    Saver(bench.settings).save()
    os.kill(pids[0], signal.SIGSTOP)
    os.waitpid(pids[0], os.WUNTRACED)


def half_saved(bench: Lent, _pids: list[int]) -> None:
    at = dt.datetime.now(dt.UTC).isoformat()
    told = {"version": 1, "instance": "i-1", "generation": 1, "reason": "end", "because": "its lease was over"}
    bench.write("suspended.json", {**told, "at": at, "whole": False, "saved": None})


def without_data(bench: Lent, _pids: list[int]) -> None:
    Saver(bench.settings).save()
    (bench.folder / "seeded.json").unlink()
    bench.write("lease.json", bench.read("lease.json") | {"data": True})
    log = bench.folder.parents[1] / "logs/lease-bench-seeding.log"
    log.parent.mkdir()
    log.write_text("noise\nDataError: the database is away\n")


def missed(bench: Lent, _pids: list[int]) -> None:
    Saver(bench.settings).save()
    checks = [{"name": "time to resume", "found": "never", "limit": "at most 5m", "held": False}]
    told = {"scenario": "head-loss", "at": "2026-11-20T10:00:00+00:00", "held": False, "measured": {}, "checks": checks}
    bench.write("rehearsals.json", {"version": 1, "last": {"head-loss": told}})


def unreadable(bench: Lent, _pids: list[int]) -> None:
    Saver(bench.settings).save()
    (bench.folder / "lease.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (forgotten, "nothing of it was ever saved, and that is wanted every 5m"),
        (dead, "process lease-bench-head is down"),
        (frozen, "process lease-bench-head is stopped"),
        (half_saved, "it was suspended with work that is not saved"),
        (without_data, "code and data could not be put into it: DataError: the database is away"),
        (missed, "rehearsal of head-loss at 2026-11-20T10:00:00+00:00 missed its objective: time to resume never"),
        (unreadable, "lease.json"),
    ],
    ids=["never-saved", "dead", "frozen", "suspended-unsaved", "without-data", "rehearsal-missed", "unreadable"],
)
def test_a_cluster_that_needs_attention_says_why(
    bench: Lent, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Lent, list[int]], None], told: str
) -> None:
    spoil(bench, run(bench, monkeypatch, "lease-bench-head", "lease-bench-saver"))
    (first, *others) = lent.problems([facts(bench)])
    assert others == []
    assert first["what"].startswith("cluster bench: ")
    assert told in first["what"]
    said(bench)


def test_a_cluster_that_is_suspended_as_agreed_needs_no_attention_and_says_why(bench: Lent) -> None:
    half_saved(bench, [])
    bench.write("suspended.json", bench.read("suspended.json") | {"whole": True, "saved": 3})
    assert lent.problems([facts(bench)]) == []
    assert "cluster bench is suspended (end): its lease was over" in said(bench)


def test_a_stack_without_leased_clusters_says_nothing_of_them(tmp_path: Path) -> None:
    assert lent.facts(StackCard.model_construct(stack_id="0", state=str(tmp_path), processes=[])) == []
