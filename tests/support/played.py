"""A model's loop on a real store and a real journal, with runs and findings that are played.

What is played is a function of the store alone, so a loop that is killed and taken up by another process finds the
world as it was. `python played.py FOLDER DAYS` lives through the loop, for tests that kill it.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stackyard.clock import FileClock
from stackyard.control.journal import Journal
from stackyard.control.reconciler import Reconciler
from stackyard.control.settings import ControllerSettings
from stackyard.spec import plain
from stackyard.spec.loop import GatesSpec, MonitoringSpec, RetrainingSpec, RolloutSpec
from stackyard.store import bundles, inbox, layout, releases
from stackyard.store.documents import canonical, public_text
from stackyard.store.keys import ensure_signing_key
from stackyard.store.objects import Store

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class PlayedRuns:
    """Runs that end at once, unless told to last; every start is counted."""

    def __init__(self, store: Store, *, lasting: bool = False) -> None:
        self._store, self.lasting = store, lasting
        self.started: list[str] = []
        self.living: set[str] = set()

    def start(self, run_id: str, intent: Mapping[str, Any]) -> int:
        """Begin the run; one that does not last has its result now."""
        self.started.append(run_id)
        if self.lasting:
            self.living.add(run_id)
        else:
            self.end(run_id, intent)
        return 100 + len(self.started)

    def end(self, run_id: str, intent: Mapping[str, Any], **facts: Any) -> None:
        """The run succeeds."""
        made = bundles.publish(self._store, {"lineage.json": b"{}"}, {"model": "m", "made_by": run_id})
        window = intent.get("window") or {"end": START.date().isoformat()}
        result = {"run_id": run_id, "status": "succeeded", "seconds": 5.0, "bundle": made, "trial": made}
        self._store.create(
            layout.run(run_id, "result.json"), canonical(result | {"data_end": window["end"], "cpu_hours": 0.5} | facts)
        )
        self.living.discard(run_id)

    def alive(self, run_id: str, pid: int | None) -> bool:
        """Whether it runs."""
        return run_id in self.living and pid is not None


class Machine:
    """The machine's time, a second further at every look."""

    def __init__(self) -> None:
        self._looks = 0

    def now(self) -> dt.datetime:
        """Now."""
        self._looks += 1
        return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self._looks)


class PlayedProjector:
    """Shows everything at once."""

    def busy(self, run_id: str) -> bool:
        """Never."""
        return False

    def start(self, run_id: str, projection: Mapping[str, Any]) -> None:
        """Nothing to do."""

    def finished(self) -> dict[str, bool]:
        """None."""
        return {}


Finding = Callable[[Mapping[str, Any]], Any]


class PlayedWorker:
    """Answers every question at the next look, by one function a kind."""

    def __init__(self, findings: Mapping[str, Finding]) -> None:
        self._findings, self._open, self._count = findings, {}, 0
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    def ask(self, kind: str, **arguments: Any) -> str:
        """Take a question."""
        self._count += 1
        self.asked.append((kind, arguments))
        self._open[str(self._count)] = (kind, arguments)
        return str(self._count)

    def poll(self) -> dict[str, Any]:
        """Answer what is open."""
        taken, self._open = self._open, {}
        return {ticket: {"result": self._findings[kind](arguments)} for ticket, (kind, arguments) in taken.items()}


def quiet(arguments: Mapping[str, Any], **facts: Any) -> dict[str, Any]:
    """Evidence without any alarm; labels are a day behind."""
    until = dt.date.fromisoformat(arguments["until"]) - dt.timedelta(days=1)
    return {"labelled_until": until.isoformat(), "new_rows": 0, "quarantined": [], "verdicts": {}} | facts


def drifting(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Evidence of drift, always."""
    return quiet(arguments, drift_alarm="temperature has drifted", shift_since=START.date().isoformat())


def passed(_arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Gates that hold."""
    return {"kind": "gate", "version": 1, "passed": True, "checks": [_check(True, "better by 0.02")], "figures": {}}


def refused(_arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Gates that do not."""
    return passed({}) | {"passed": False, "checks": [_check(False, "worse by 0.02")]}


def moving(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A stage that is passed a day after it was entered: by its Release's number, kept in the question."""
    return {"action": "advance", "reason": "no harm was seen", "checks": [], "until": None}


def _check(holds: bool, reason: str) -> dict[str, Any]:
    return {"name": "margin", "passed": holds, "value": 0.0, "limit": 0.0, "reason": reason}


FINDINGS: dict[str, Finding] = {"verdicts": drifting, "gate": passed, "stage": moving}


class Yard:
    """One model's loop in `folder`; `controller()` makes another controller of it."""

    def __init__(self, folder: Path, *, model: str = "m", lasting: bool = False, **loop: Any) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        project = folder / "project"
        project.mkdir(exist_ok=True)
        (project / "features.py").write_text("def build(frame):\n    return frame\n")
        self.store = Store.open(folder / "store")
        self.clock = FileClock(folder / f"clock-{model}")
        if not (folder / f"clock-{model}").exists():
            self.clock.set(START)
        self.operator = ensure_signing_key(folder / "keys" / "operator")
        self.runs = PlayedRuns(self.store, lasting=lasting)
        sections = {
            "monitoring": plain.dump(MonitoringSpec()),
            "retraining": plain.dump(RetrainingSpec()),
            "gates": plain.dump(GatesSpec()),
            "rollout": plain.dump(RolloutSpec()),
        }
        self.settings = ControllerSettings(
            stack="local",
            stack_id="0123abcd",
            model=model,
            store=str(folder / "store"),
            database=f"sqlite:///{folder}/db/journal.sqlite",
            signing_key=folder / "keys" / "release",
            operator_keys=(public_text(self.operator.public_key()),),
            project={"name": model, **sections}
            | {name: plain.dump(spec) for name, spec in loop.items() if name in sections},
            project_folder=project,
            checkout=folder,
            runtime=folder / "runtime",
            cache=folder / "cache",
            log_folder=folder / "logs",
            token_path=folder / "keys" / "token",
            node_address="127.0.0.9",
            approvals=loop.get("approvals", {}),
            facts={"plan": "p" * 64},
        )
        self.journal = Journal(self.settings.database)
        self.journal.migrate()

    def controller(self, **findings: Finding) -> Reconciler:
        """A controller that knows nothing but what the folder holds."""
        self.worker = PlayedWorker(FINDINGS | findings)
        return Reconciler(
            self.settings,
            store=self.store,
            journal=self.journal,
            runs=self.runs,  # type: ignore[arg-type]
            projector=PlayedProjector(),  # type: ignore[arg-type]
            clock=self.clock,
            worker=self.worker,
            machine=Machine(),
        )

    def settle(self, controller: Reconciler, *, most: int = 60) -> str:
        """Step until nothing is under way; what it waits for. Raises AssertionError when that takes too long."""
        for _ in range(most):
            controller.step()
            pulse = self.journal.pulse(self.settings.model)
            if pulse is not None and pulse.settled and dt.datetime.fromisoformat(pulse.at) >= self.clock.now():
                return pulse.why
        raise AssertionError(self.journal.decisions(self.settings.model)[:5])

    def settle_why(self) -> str:
        """What the loop said last that it waits for."""
        pulse = self.journal.pulse(self.settings.model)
        return "" if pulse is None else pulse.why

    def days(self, controller: Reconciler, count: int) -> str:
        """Live through `count` days."""
        why = ""
        for _ in range(count):
            self.clock.set(self.clock.now() + dt.timedelta(days=1))
            why = self.settle(controller)
        return why

    def wish(self, kind: str, **facts: Any) -> str:
        """A person wants something; returns the wish's id."""
        found = inbox.Wish(
            id=inbox.new_id(), model=self.settings.model, kind=kind, because="why not", by="ann",  # type: ignore[arg-type]
            created=self.clock.now().isoformat(), **facts,
        )  # fmt: skip
        assert inbox.send(self.store, found, self.operator)
        return found.id

    def chain(self) -> list[releases.Release]:
        """Every Release."""
        key = ensure_signing_key(self.settings.signing_key)
        return releases.history(self.store, self.settings.model, [public_text(key.public_key())])

    def story(self) -> list[tuple[str, int | None, str | None]]:
        """Stage, step and outcome of every Release."""
        return [(each.stage, each.step, each.outcome) for each in self.chain()]


def end_state(yard: Yard) -> dict[str, Any]:
    """Everything that must not depend on kills."""
    runs = [(run.number, run.wish, run.asked) for run in yard.journal.runs(yard.settings.model)]
    gates = sorted(key for key in yard.store.keys(f"gates/{yard.settings.model}"))
    audited = [json.loads(yard.store.read(key))["body"] for key in yard.store.keys(f"audit/{yard.settings.model}")]
    return {
        "story": [list(each) for each in yard.story()],
        "runs": json.loads(json.dumps(runs)),
        "gates": [key.rpartition("/")[2] for key in gates],
        "audit": [[each["what"], each.get("event")] for each in audited],
    }


if __name__ == "__main__":
    there = Yard(Path(sys.argv[1]))
    until = START + dt.timedelta(days=int(sys.argv[2]))
    mind = there.controller()
    there.settle(mind)
    while there.clock.now() < until:
        there.days(mind, 1)
    print(json.dumps(end_state(there)))
