"""Certificates, asked for as a process: what is left of a cluster or a stack that was taken away.

`python -m stackyard.certificates VERB LEDGER.json --json`, exit code 0 is yes. A leak refuses the deletion, and the
next one tries again. A loss cannot be mended by trying again: it refuses once, so that nobody overlooks it.

    STATE/certificates/*.json                         copies of all that were given
                      /pending/cluster-NAME-INSTANCE  what is known of a cluster that goes, until its certificate
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stackyard_infra.provider.announcing import announce
from stackyard_infra.provider.daemon import surroundings
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.ledgers import Ledgers
from stackyard_infra.provider.private import read_plain, write_plain
from stackyard_infra.provider.site import Site, private_folder, remove_folder

MODULE = (sys.executable, "-P", "-m", "stackyard.certificates")
COPIED = ("ledger.json", "instance.json", "evacuation.json", "usage.jsonl", "seen.json")
"""Of what lies beside a workspace: what a certificate is made of."""
LISTED = 20


class Certificates:
    """The certificates of one site."""

    def __init__(self, site: Site, command: Sequence[str] = MODULE) -> None:
        self._site, self._command = site, tuple(command)
        self.ledgers = Ledgers(site)
        self.folder = self.ledgers.certificates

    def expect(
        self, cluster: str, instance: str, told: Mapping[str, Any], processes: Sequence[Mapping[str, Any]]
    ) -> None:
        """Note what a leased cluster is expected to have; what was set aside of its end is void, since it lives on."""
        self.ledgers.expect_cluster(cluster, instance, told, processes)
        remove_folder(self.folder / "pending" / f"cluster-{cluster}-{instance}")

    def set_aside(self, cluster: str, instance: str, store: str | None) -> Path | None:
        """Copy what a certificate of `cluster` needs to where its deletion does not reach; returns its ledger.

        May be repeated at any point of a deletion. None for an instance that was certified before.
        """
        beside = self.ledgers.of_cluster(cluster).parent
        record = read_plain(beside / "instance.json")
        instance = record["instance"] if isinstance(record, dict) and record.get("instance") else instance
        stem = f"cluster-{cluster}-{instance or 'unknown'}"
        pending = self.folder / "pending" / stem
        if not (beside / "workspace").exists() and (pending / "ledger.json").exists():
            return pending / "ledger.json"  # half of it went already
        if not beside.exists() and any(self.folder.glob(f"{stem}-*.json")):
            return None
        if beside.exists() and not (read_plain(self.ledgers.of_cluster(cluster)) or {}).get("instance"):
            self.ledgers.expect_cluster(cluster, instance, {}, read_plain(beside / "processes.json") or [])
        self._copy(beside, pending, {"cluster": cluster, "instance": instance or "unknown", "store": store})
        return pending / "ledger.json"

    def refuse_unsafe(self, ledger: Path | None) -> None:
        """Raises Refusal, while the workspace is still there, when the store does not hold what it promised."""
        if ledger is None:
            return
        code, told = self._ask("before", ledger)
        if code != 0:
            name = (read_plain(ledger) or {}).get("cluster")
            raise Refusal(
                f"Cluster {name} is not taken away: the store does not hold its work as the receipt says:\n"
                f"    {told.get('reason')}\nLet its gate save it again: pulumi up, then this command again. To lose it "
                f'on purpose: stackyard evacuate {name} --discard --because "..." -s {self._site.stack}'
            )

    def of_cluster(self, ledger: Path | None) -> None:
        """Certify that a cluster went. Raises Refusal for a leak, and once for a loss."""
        if ledger is not None:
            self.ledgers.sweep(ledger)
            self._certify(ledger)

    def of_stack(self) -> None:
        """Certify that the whole stack went. Raises Refusal for a leak, and once for a loss."""
        ledger = self.ledgers.closing()
        self.ledgers.sweep(ledger)
        self._certify(ledger)

    def _certify(self, ledger: Path) -> None:
        known = read_plain(ledger) or {}
        subject = " ".join(str(known.get(name)) for name in ("subject", "cluster", "instance", "opened"))
        refused = read_plain(self.folder / "refused.json") or []
        final = ["--final"] if subject in refused else []
        code, told = self._ask("certify", ledger, *final)
        if "certificate" not in told:
            raise Refusal(f"All is gone, but no certificate can be given: {told.get('reason')} Run the command again.")
        show = f"stackyard certificate show {told['certificate']} -s {self._site.stack}"
        text = "\n".join([f"{told['sentence']} ({show})", *(f"    {line}" for line in told["lines"][: 2 * LISTED])])
        for away in told["away"]:
            announce(f"The certificate lies in {told['path']} only: {away}", "warning")
        if code == 0:
            announce(text)
        elif told["verdict"] == "leaked":
            raise Refusal(f"{text}\nEnd or remove that, and run the command again.")
        elif final:
            announce(text, "warning")
        else:
            write_plain(private_folder(self.folder) / "refused.json", [*refused, subject])
            raise Refusal(f"{text}\nIf that can be mended (is the store there?), mend it; then run the command again.")

    def _ask(self, verb: str, ledger: Path, *options: str) -> tuple[int, Mapping[str, Any]]:
        """Exit code and document. Raises Refusal when the process fails to answer."""
        environment = surroundings(os.environ) | {"PYTHONSAFEPATH": "1"}
        done = subprocess.run(
            [*self._command, verb, str(ledger), *options, "--json"],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        )  # fmt: skip
        try:
            told = json.loads((done.stdout.strip().splitlines() or [""])[-1])
        except ValueError:
            told = None
        if done.returncode in (0, 1) and isinstance(told, dict):
            return done.returncode, told
        said = (told or {}).get("reason") or done.stderr.strip() or "it said nothing"
        raise Refusal(
            f"What is left of {self._site.stack} is not known: `certificates {verb}` failed (exit code "
            f"{done.returncode}: {said.splitlines()[-1]}). Run the command again."
        )

    def _copy(self, beside: Path, pending: Path, known: Mapping[str, Any]) -> None:
        """Make `pending`, whole or not at all."""
        private_folder(self.folder)
        private_folder(pending.parent)
        scratch = pending.with_name(f".{pending.name}")
        remove_folder(scratch)
        private_folder(scratch)
        for name in COPIED:
            if (beside / name).exists():
                shutil.copy2(beside / name, scratch / name)
        write_plain(scratch / "before.json", {"empty": _empty(beside / "workspace")})
        if (beside / "saver" / "discards").is_dir():
            shutil.copytree(beside / "saver" / "discards", scratch / "discards")
        self.ledgers.expect_gone(scratch / "ledger.json", known)
        remove_folder(pending)
        scratch.rename(pending)


def _empty(folder: Path) -> bool:
    try:
        return not os.listdir(folder)
    except OSError:
        return not folder.exists()
