"""A poisoned month of real flights, from the log to the next model: found when, told to whom, learnt by none.

Logs are written as replicas write them; evidence, verdicts, policy, alerts and snapshots are the product's own.
Only the training run is played: it notes what it was told to learn from.
"""

from __future__ import annotations

import datetime as dt
import io
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from played import PlayedProjector, PlayedWorker
from stackyard.clock import FileClock
from stackyard.control.findings import Findings
from stackyard.control.journal import Journal
from stackyard.control.reconciler import Reconciler
from stackyard.control.settings import ControllerSettings
from stackyard.control.worker import WorkerSettings
from stackyard.data import code, snapshots, sources
from stackyard.monitoring.senders import Alerts
from stackyard.replay import drills
from stackyard.spec import plain
from stackyard.spec.loop import AlertsSpec
from stackyard.spec.models import ParquetSourceSpec, ProjectSpec, WindowSpec
from stackyard.store import bundles, layout, releases
from stackyard.store.documents import public_text
from stackyard.store.keys import ensure_signing_key
from stackyard.store.objects import Store
from winter import FLIGHTS, Winter

START = dt.date(2013, 4, 1)
MAY, JUNE = dt.date(2013, 5, 1), dt.date(2013, 6, 1)
AFTER = dt.date(2013, 6, 5)
"""A few days of June, by which all labels of May are there."""
POISONS = {
    "labels flipped": "flipped-labels@2013-05",
    "stuck sensor": "stuck-sensor@2013-05:pressure",
    "F became C": "other-unit@2013-05:temperature",
}
"""Names of drills to what is done to May."""
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Found:
    """What became of one poisoned month."""

    drill: str
    day: dt.date
    """The first poisoned day that was quarantined."""
    known: dt.datetime
    """When: the first midnight at which that was said."""
    requests: int
    """Requests of poisoned days that had been answered by then."""
    quarantined: int
    """Poisoned days that were quarantined in the end, of 31."""
    sound: int
    """Days without poison that were quarantined."""
    taught: int
    """Rows of poisoned days in the snapshot that the next model learns from."""
    new_rows: int
    """Labelled rows that the loop counts as something to learn from."""
    told: list[str]
    """Messages that the owner of the data got about it."""


class _NotingRuns:
    """Notes what it is asked to learn from, and goes on for ever."""

    def __init__(self) -> None:
        self.intents: list[Mapping[str, Any]] = []

    def start(self, run_id: str, intent: Mapping[str, Any]) -> int:
        self.intents.append(intent)
        return 1

    def alive(self, run_id: str, pid: int | None) -> bool:
        return True


class Spring:
    """April until `end` lived through with one poison in May, in `folder`."""

    def __init__(self, folder: Path, winter: Winter, name: str, end: dt.date = AFTER) -> None:
        self.folder, self.winter, self.name = folder, winter, name
        self.lived = WindowSpec(start=START, end=end)
        self.store = Store.open(folder / "store")
        self.clock = FileClock(folder / "clock")
        self.operator = ensure_signing_key(folder / "keys" / "operator")
        key = ensure_signing_key(folder / "keys" / "release")
        sections = {"retraining": {"mode": "off"}, "alerts": {"owners": {"data": ["MAIL"]}}}
        self.project = plain.load(ProjectSpec, plain.dump(winter.project) | sections)
        self.drill = drills.Drill.of(POISONS[name], self.project)
        facts = {"model": self.project.name, "code": code.publish(self.store, FLIGHTS)}
        self.champion = bundles.publish(self.store, winter.files, facts)
        first = releases.Release(
            model=self.project.name, number=1, champion=self.champion, reason="first", created="2013-03-01T00:00:00Z"
        )
        assert releases.publish(self.store, first, key)
        drills.write(self.project, FLIGHTS, self.drill, self.lived, folder / "past")
        source = ParquetSourceSpec(parquet=str(folder / "past"))
        self.poisoned = self.project.model_copy(
            update={"data": self.project.data.model_copy(update={"source": source})}
        )
        self._log()
        self.runs, self.messages = _NotingRuns(), list[Mapping[str, Any]]()
        self.loop = self._controller([public_text(key.public_key())])
        self._card(public_text(key.public_key()))

    def midnight(self, day: dt.date) -> dict[str, Any]:
        """Let the loop find out all that the beginning of `day` asks for; returns the verdicts."""
        self.clock.set(dt.datetime.combine(day, dt.time(), dt.UTC))
        for _ in range(20):
            self.loop.step()
            pulse = self.journal.pulse(self.project.name)
            if pulse is not None and pulse.settled and dt.datetime.fromisoformat(pulse.at) >= self.clock.now():
                break
        else:
            raise AssertionError(self.journal.decisions(self.project.name)[:3])
        return self.journal.read(self.project.name, "verdicts") or {}

    def says(self, *command: str) -> None:
        """`stackyard COMMAND`, as a person types it beside the stack."""
        program = Path(sys.executable).with_name("stackyard")
        told = subprocess.run([program, *command], cwd=self.folder, capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stderr

    def live(self) -> Found:
        """May begins, is found out, and passes; then a person asks for a new model."""
        first = known = None
        for day in (MAY + place * _DAY for place in range(5)):
            said = self.midnight(day)
            hit = [dt.date.fromisoformat(each) for each in said["quarantined"] if each >= MAY.isoformat()]
            if hit and first is None:
                first, known = hit[0], self.clock.now()
        assert first is not None and known is not None, f"{self.name} was not found in four days"
        said = self.midnight(self.lived.end)
        self.train()
        days = [dt.date.fromisoformat(each) for each in said["quarantined"]]
        return Found(
            drill=self.name,
            day=first,
            known=known,
            requests=sum(count for day, count in self.counts.items() if MAY <= day < known.date()),
            quarantined=sum(MAY <= day < JUNE for day in days),
            sound=sum(not MAY <= day < JUNE for day in days),
            taught=self.taught(),
            new_rows=said["new_rows"],
            told=[f"{each['title']}\n{each['body']}" for each in self.messages],
        )

    def train(self) -> None:
        """A person asks for a new model, and its run begins."""
        self.says("train", "--because", "a drill")
        for _ in range(20):
            if self.runs.intents:
                return
            self.loop.step()
        raise AssertionError("no run was started")

    def taught(self) -> int:
        """Rows of May in the snapshot that the newest intent asks for, of the days that were lived."""
        intent = self.runs.intents[-1]
        exclude = [dt.date.fromisoformat(day) for day in intent.get("exclude", ())]
        window = WindowSpec(start=START, end=dt.date.fromisoformat(str(intent["window"]["end"])))
        frozen = snapshots.freeze(self.store, self.poisoned, FLIGHTS, window=window, exclude=exclude)
        day = pl.col(self.project.data.time).dt.date()
        return snapshots.load(self.store, frozen.digest).filter(day.is_between(MAY, JUNE, closed="left")).height

    def _log(self) -> None:
        """Predictions at their time, labels a day later, a file a day."""
        data = self.project.data
        rows = sources.read(self.poisoned.data, FLIGHTS, self.lived)
        known = [name for name, column in data.columns.items() if column.known == "before"]
        answers = pl.Series("outputs", self.winter.answers(rows).reshape(-1, 1).tolist(), pl.List(pl.Float64))
        head = {"bundle": self.champion, "arm": "champion", "outcome": "ok", "seconds": 0.004}
        log = rows.select(
            pl.format("flight-{}", pl.int_range(pl.len())).alias("request_id"),
            pl.lit(0, pl.UInt32).alias("row"),
            pl.col(data.time).alias("time"),
            *(pl.lit(value).alias(name) for name, value in head.items()),
            pl.lit(1, pl.UInt32).alias("release"),
            *known,
            answers,
        )
        labels = log.select(
            "request_id",
            "row",
            rows[str(self.project.task.label)].cast(pl.Float64).alias("label"),
            (pl.col("time") + _DAY).alias("received"),
        )
        self.counts: dict[dt.date, int] = {}
        for (day,), part in log.group_by(pl.col("time").dt.date(), maintain_order=True):
            assert isinstance(day, dt.date)
            self.counts[day] = part.height
            self._keep(layout.predictions(self.project.name, day.isoformat(), "all.parquet"), part)
        for (day,), part in labels.group_by(pl.col("received").dt.date(), maintain_order=True):
            assert isinstance(day, dt.date)
            self._keep(layout.labels(self.project.name, day.isoformat(), "all.parquet"), part)

    def _keep(self, key: str, frame: pl.DataFrame) -> None:
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        assert self.store.create(key, buffer.getvalue())

    def _controller(self, trusted: list[str]) -> Reconciler:
        project, folder = plain.dump(self.project), self.folder
        told = WorkerSettings(
            model=self.project.name,
            store=self.store.url,
            project=project,
            cache=folder / "cache",
            trusted=tuple(trusted),
        )
        findings = Findings.of(told)
        settings = ControllerSettings(
            stack="local",
            stack_id="0123abcd",
            model=self.project.name,
            store=self.store.url,
            database=f"sqlite:///{folder / 'db' / 'journal.sqlite'}",
            signing_key=folder / "keys" / "release",
            operator_keys=(public_text(self.operator.public_key()),),
            project=project,
            project_folder=FLIGHTS,
            checkout=folder,
            runtime=folder / "runtime",
            cache=folder / "cache",
            log_folder=folder / "logs",
            token_path=folder / "token",
            node_address="127.0.0.9",
        )
        self.journal = Journal(settings.database)
        self.journal.migrate()
        spec = plain.load(AlertsSpec, project["alerts"])
        senders = {"apprise": lambda _secret, message: self.messages.append(message)}
        return Reconciler(
            settings,
            store=self.store,
            journal=self.journal,
            runs=self.runs,  # type: ignore[arg-type]
            projector=PlayedProjector(),  # type: ignore[arg-type]
            clock=self.clock,
            worker=PlayedWorker({"verdicts": lambda asked: findings.answer("verdicts", dict(asked))}),
            alerts=Alerts(spec, {"MAIL": "json://nowhere"}, self.clock, model=self.project.name, senders=senders),
        )

    def _card(self, public: str) -> None:
        """What a command looks for in a checkout whose stack is up."""
        (self.folder / "Pulumi.yaml").touch()
        state = self.folder / ".stackyard" / "local"
        state.mkdir(parents=True)
        card = {
            "stack": "local",
            "stack_id": "0123abcd",
            "runtime": str(self.folder / "runtime"),
            "state": str(state),
            "store": str(self.folder / "store"),
            "model": self.project.name,
            "public_keys": [public],
            "addresses": {},
            "processes": [],
            "replica_ports": [],
            "database": f"sqlite:///{self.folder / 'db' / 'journal.sqlite'}",
            "operator_key": str(self.folder / "keys" / "operator"),
            "clock": str(self.folder / "clock"),
        }
        (state / "stack.json").write_text(json.dumps(card))
