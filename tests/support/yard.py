"""A stack as `up` leaves it, without its processes: a card, keys, a store with a past, a journal."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stackyard.control.journal import Journal, Run
from stackyard.store import audit, inbox, layout, releases
from stackyard.store.documents import canonical, public_text
from stackyard.store.keys import ensure_signing_key
from stackyard.store.objects import Store
from stackyard.store.releases import Arm, Release

Speaks = Callable[..., tuple[int, str, str]]
"""`stackyard ARGUMENTS`: exit code, standard output, standard error."""
START = dt.datetime(2013, 3, 1, tzinfo=dt.UTC)


class Yard:
    """One stack's files, and what a controller would have written into them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.model = folder, "parcels"
        (folder / "Pulumi.yaml").touch()
        state = folder / ".stackyard" / "local"
        self.store = Store.open(state / "store")
        self.key = ensure_signing_key(state / "keys" / "release-key")
        self.operator = ensure_signing_key(state / "keys" / "operator.key")
        self.log = audit.Log(self.store, self.model, self.key)
        (state / "db").mkdir()
        self.database = f"sqlite:///{state / 'db' / 'controller.sqlite'}"
        self.journal = Journal(self.database)
        self.journal.migrate()
        (state / "clock").write_text("2013-05-01T12:00:00+00:00")
        card = {
            "stack": "local",
            "stack_id": "0123abcd",
            "runtime": str(state / "run"),
            "state": str(state),
            "store": str(state / "store"),
            "model": self.model,
            "public_keys": [public_text(self.key.public_key())],
            "addresses": {"predict": "http://127.0.0.1:1/predict"},
            "processes": [],
            "replica_ports": [],
            "database": self.database,
            "operator_key": str(state / "keys" / "operator.key"),
            "clock": str(state / "clock"),
            "plan": "d" * 64,
        }
        (state / "stack.json").write_text(json.dumps(card))

    def run(self, number: int, why: str = "drift", /, **result: Any) -> str:
        """A run that was intended, and its result when there is one."""
        run_id = f"{self.model}-{number:04d}-abcdef01"
        created = (START + dt.timedelta(days=number)).isoformat()
        self.journal.intend(
            Run(run_id=run_id, model=self.model, number=number, recipe="r", reason=why, created=created)
        )
        if result:
            self.store.create(layout.run(run_id, "result.json"), canonical({"run_id": run_id, **result}))
        return run_id

    def made(self, number: int, reason: str = "drift") -> str:
        """A run that made a bundle, whose digest is its number over and over."""
        window = {"start": "2013-01-01", "end": "2013-04-17"}
        return self.run(
            number, reason, status="succeeded", bundle=self.bundle(number), window=window, seconds=31.0, cpu_hours=0.25
        )

    @staticmethod
    def bundle(number: int) -> str:
        return f"{number:02d}" * 32

    def gate(self, run_id: str, *, passed: bool) -> None:
        """What the gates said of a run."""
        checks = [
            {"name": "superiority", "passed": passed, "value": 0.004, "limit": -0.01, "reason": "0.004 better"},
            {"name": "slice DL", "passed": None, "value": None, "limit": None, "reason": "32 rows are too few"},
        ]
        report = {
            "passed": passed,
            "reason": "2 checks hold" if passed else "the AUC is 0.02 lower than the champion's",
            "checks": checks,
            "figures": {"metric": "auc", "candidate": {"auc": 0.7312}},
        }
        self.store.create(layout.gate(self.model, run_id), canonical(report))

    def release(self, champion: int, reason: str = "better", **more: Any) -> Release:
        """The next Release, entered in the audit log before."""
        number = len(releases.history(self.store, self.model, [public_text(self.key.public_key())])) + 1
        at = (START + dt.timedelta(days=number)).isoformat()
        facts = {"run_id": more["candidate"]} if more.get("candidate") else {}
        head = self.log.append(at=at, who="controller", what="released", why=reason, facts=facts)
        found = Release(
            model=self.model,
            number=number,
            champion=self.bundle(champion),
            reason=reason,
            created=at,
            audit=head,
            previous=releases.stored_digest(self.store, self.model, number - 1),
            **more,
        )
        assert releases.publish(self.store, found, self.key)
        return found

    def rolling(self, champion: int, challenger: int, run_id: str) -> Release:
        """A Release with a canary."""
        arm = Arm(bundle=self.bundle(challenger), kind="canary", share=0.05)
        return self.release(champion, "passed its shadow", stage="canary", step=1, candidate=run_id, arms=(arm,))

    def wishes(self) -> list[inbox.Wish]:
        """What people asked for."""
        return inbox.read(self.store, self.model, [public_text(self.operator.public_key())])
