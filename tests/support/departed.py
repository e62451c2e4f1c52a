"""A stack and a leased cluster that were taken away, as their ledgers and evidence say, and a machine to look at."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leased import Lab, leased
from stackyard.certificates import ledger as ledgers
from stackyard.certificates.ledger import Ledger
from stackyard.evacuation import evacuating, receipts
from stackyard.evacuation.settings import SaverSettings
from stackyard.store.keys import ensure_signing_key
from stackyard.store.objects import Store

OPENED = "2026-03-01T08:00:00+00:00"


@dataclass
class Departed:
    """A stack's folder with certificates, and what is known of its one cluster, `bench`."""

    base: Path
    lab: Lab
    state: Path
    runtime: Path
    stack_id: str
    told: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def scratch(self) -> Path:
        return self.runtime / "l1234"

    @property
    def pending(self) -> Path:
        return self.state / "certificates/pending/cluster-bench-i-1"

    @property
    def certificates(self) -> Path:
        return self.state / "certificates"

    def plain(self, subject: str = "stack", **told: Any) -> dict[str, Any]:
        """A ledger as infra writes it."""
        cluster = {"cluster": "bench", "instance": "i-1", "folders": [str(self.scratch)]}
        stack = {"folders": [str(self.runtime), str(self.state / "leases")], "processes": ["supervisor", "serving"]}
        return {
            "version": 1,
            "subject": subject,
            "stack": "lab",
            "stack_id": self.stack_id,
            "state": str(self.state),
            "runtime": str(self.runtime),
            "certificates": str(self.certificates),
            "receipt_key": str(self.state / "keys/receipt-key"),
            "store": str(self.lab.store),
            "opened": OPENED,
            "processes": ["lease-bench-head", "lease-bench-saver"],
            "sockets": [str(self.runtime / "supervisor.sock")],
            "hourly_price": 2.0 if subject == "cluster" else None,
            **(cluster if subject == "cluster" else stack),
            **self.told,
            **told,
        }

    def ledger(self, subject: str = "stack", **told: Any) -> Ledger:
        return ledgers.read(self.plain(subject, **told), "here")

    def stack_ledger(self, **told: Any) -> Path:
        path = self.state / "ledger.json"
        path.write_text(json.dumps(self.plain(**told)))
        return path

    def evidence(self, settings: SaverSettings | None = None, **told: Any) -> Path:
        """Set aside what is known of the cluster; returns its ledger."""
        shutil.rmtree(self.pending, ignore_errors=True)
        self.pending.mkdir(parents=True)
        known = settings or self.lab.settings
        record = {"instance": known.instance, "generation": known.generation, "sealed": True, "opened": OPENED}
        for name, plain in (
            ("ledger", self.plain("cluster", **told)),
            ("instance", record),
            ("evacuation", known.model_dump(mode="json")),
            ("before", {"empty": False}),
        ):
            (self.pending / f"{name}.json").write_text(json.dumps(plain))
        if (known.state / "discards").is_dir():
            shutil.copytree(known.state / "discards", self.pending / "discards")
        return self.pending / "ledger.json"

    def evacuated(self, **settings: Any) -> None:
        """Put work in the workspace and let it go with a receipt."""
        self.lab = self.lab.with_(**settings)
        (self.lab.workspace / "model.txt").write_text("work")
        (self.lab.workspace / "data").write_bytes(os.urandom(5000))
        evacuating.evacuate(self.lab.settings, pause=lambda _: None)

    def discard(self, store: bool = True) -> None:
        """Choose to lose the work."""
        told = self.lab.settings
        named = {name: getattr(told, name) for name in ("stack", "stack_id", "cluster", "instance", "generation")}
        body = receipts.Discard(**named, created=OPENED, because="a trial", by="ada", newest=None)
        opened = Store.open(self.lab.store) if store else None
        receipts.discard(told, opened, ensure_signing_key(told.receipt_key), body)

    def packs(self) -> list[Path]:
        return self.lab.packs()


def departed(tmp_path: Path) -> Departed:
    """Nothing of it is left; its runtime folder's name is its own alone."""
    stack_id = secrets.token_hex(4)
    state = tmp_path / "checkout/.stackyard/lab"
    (state / "keys").mkdir(parents=True)
    made = leased(tmp_path).with_(stack="lab", stack_id=stack_id)
    return Departed(tmp_path, made, state, Path(f"/tmp/sy-{os.getuid()}-{stack_id}"), stack_id)


def nothing(gone: Departed) -> None:
    """As it was."""


def no_receipt(gone: Departed) -> None:
    next(gone.lab.store.glob("receipts/*/*.json")).unlink()


def forged_receipt(gone: Departed) -> None:
    receipt = next(gone.lab.store.glob("receipts/*/*.json"))
    receipt.write_bytes(receipt.read_bytes().replace(b'"files":2', b'"files":3'))


def damaged_pack(gone: Departed) -> None:
    pack = max(gone.packs(), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)


def longer_pack(gone: Departed) -> None:
    with gone.packs()[0].open("ab") as pack:
        pack.write(b"x")


def missing_packs(gone: Departed) -> None:
    for pack in gone.packs():
        pack.unlink()


def other_generation(gone: Departed) -> None:
    gone.lab = gone.lab.with_(generation=2)


def other_instance(gone: Departed) -> None:
    gone.lab = gone.lab.with_(instance="i-2")


def other_version(gone: Departed) -> None:
    next(gone.lab.store.glob("workspaces/*/versions/*.json")).write_bytes(b"{}")


def away(gone: Departed) -> None:
    gone.lab.store.rename(gone.lab.store.with_name("away"))


def no_receipt_but_a_discard(gone: Departed) -> None:
    no_receipt(gone)
    gone.discard()


def discard_while_away(gone: Departed) -> None:
    gone.discard(store=False)
    away(gone)


def discard_of_another_generation(gone: Departed) -> None:
    gone.discard()
    other_generation(gone)


def discard_beside_a_receipt(gone: Departed) -> None:
    gone.discard()
