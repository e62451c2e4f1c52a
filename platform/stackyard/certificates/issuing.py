"""After something was taken away: look for all of it, read the store again, sign what was found.

A leak that ends by itself within `PATIENCE` seconds is none: a killed process takes a moment to go. The certificate of
a stack holds those of its clusters, and gives those that a kill kept from being given.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import platform
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stackyard.certificates import evidence as evidences
from stackyard.certificates import leaks, losses, usage
from stackyard.certificates.certificate import Certificate, Given, Verdict, give, issued
from stackyard.certificates.evidence import Evidence
from stackyard.certificates.leaks import Found, Leak
from stackyard.certificates.ledger import Ledger
from stackyard.certificates.looking import look
from stackyard.certificates.losses import Proof
from stackyard.certificates.scene import Scene
from stackyard.evacuation import looking
from stackyard.evacuation.blobs import Coder
from stackyard.evacuation.errors import EvacuationError
from stackyard.evacuation.freezing import write_whole
from stackyard.evacuation.saving import cache_of
from stackyard.evacuation.settings import SaverSettings
from stackyard.store import layout
from stackyard.store.documents import digest_of
from stackyard.store.objects import Store

PENDING = "pending"
PATIENCE = 2.0
SAVER = ("store", "cluster", "instance", "generation", "encrypt_key", "trusted_keys")
Look = Callable[[Ledger], Scene]


@dataclasses.dataclass(frozen=True)
class Issued:
    """A certificate, those of a stack's clusters that were still to be given, and what the store said against it."""

    given: Given
    others: tuple[Given, ...] = ()
    away: tuple[str, ...] = ()


def certify(ledger: Path, *, final: bool = False, look: Look = look, patience: float = PATIENCE) -> Issued:
    """Look, judge, sign. The ledger has then done its work and goes, unless something leaked, or (but for `final`)
    was lost or could not be asked for. Raises LedgerError, CertificateError."""
    known = evidences.read(ledger)
    pending = [
        certify(path, final=final, look=look, patience=patience).given
        for path in sorted((known.ledger.certificates / PENDING).glob("*/ledger.json"))
        if known.ledger.subject == "stack"
    ]
    found = _search(known.ledger, look, patience)
    proof = losses.prove(known.settings, known.before, was_opened=known.opened) if _is_cluster(known) else None
    clusters = [] if _is_cluster(known) else list(_clusters(known.ledger))
    away: list[str] = []
    body = _body(known, found, proof, clusters)
    given = give(known.ledger, body, _store(known.ledger.store, away), away)
    if given.body.verdict in ("clean", "given-up") or (final and given.body.verdict != "leaked"):
        _settle(known)
    return Issued(given, tuple(pending), tuple(away))


def before(ledger: Path) -> Proof:
    """Whether the work may go: asked of the store while the workspace is still there, and noted beside `ledger`."""
    known = evidences.read(ledger)
    told: dict[str, Any] = {"empty": _empty(known.settings)}
    write_whole(known.folder / "before.json", json.dumps(told).encode())
    proof = losses.prove(known.settings, told, was_opened=known.opened)
    if proof.verdict == "given-up" and proof.given_up is not None:
        told |= _unsaved(known)
        proof.given_up |= {"entries": told.get("unsaved"), "bytes": told.get("unsaved_bytes")}
        write_whole(known.folder / "before.json", json.dumps(told).encode())
    return proof


def _search(ledger: Ledger, look: Look, patience: float) -> Found:
    deadline = time.monotonic() + patience
    while (found := leaks.find(ledger, look(ledger))).leaks and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _body(
    known: Evidence, found: Found, proof: Proof | None, clusters: list[Given | str]
) -> Callable[[int], Certificate]:
    ledger, now = known.ledger, dt.datetime.now(dt.UTC)
    ended = ledger.closed or now.isoformat(timespec="seconds")
    certified = [each.body for each in clusters if isinstance(each, Given)]
    lost = [each for each in clusters if isinstance(each, str)]
    lost += [f"cluster {each.cluster}: {why}" for each in certified for why in each.losses]
    given_up = [dict(each) | {"cluster": cert.cluster} for cert in certified for each in cert.given_up]
    if proof is not None:
        lost += proof.why if proof.verdict in ("lost", "unproven") else []
        given_up += [{**proof.given_up, "cluster": ledger.cluster}] if proof.given_up else []
    verdict = _verdict(found, proof, certified, lost)
    plain = {
        "subject": ledger.subject,
        "stack": ledger.stack,
        "stack_id": ledger.stack_id,
        "cluster": ledger.cluster,
        "instance": ledger.instance,
        "generation": known.settings.generation if known.settings else None,
        "verdict": verdict,
        "clean": verdict == "clean",
        "opened": ledger.opened,
        "closed": ended,
        "issued": now.isoformat(timespec="microseconds"),
        "ledger": known.raw,
        "ledger_digest": digest_of(known.raw),
        "looked": {kind: dict(counts) for kind, counts in found.looked.items()},
        "leaks": [dataclasses.asdict(each) for each in found.leaks],
        "others": list(found.others),
        "losses": lost,
        "given_up": given_up,
        "receipt": proof.receipt if proof else None,
        "saver": known.settings.model_dump(mode="json", include={*SAVER}) if known.settings else None,
        "usage": _usage(known, ended) if _is_cluster(known) else _total(certified),
        "kept": [{"what": each.what, "path": each.path, "there": os.path.exists(each.path)} for each in ledger.kept],
        "clusters": [_named(each) for each in clusters if isinstance(each, Given)],
        "software": _software(),
    }
    return lambda number: Certificate.model_validate({**plain, "number": number})


def _verdict(found: Found, proof: Proof | None, clusters: list[Certificate], lost: list[str]) -> Verdict:
    said = {each.verdict for each in clusters} | ({proof.verdict} if proof else set())
    if found.leaks or "leaked" in said:
        return "leaked"
    if "lost" in said or (lost and "unproven" not in said):
        return "lost"
    return "unproven" if "unproven" in said else "given-up" if "given-up" in said else "clean"


def _clusters(ledger: Ledger) -> Iterator[Given | str]:
    """The newest certificate of each cluster that was made, or a sentence where there is none."""
    given = sorted(
        issued(ledger.certificates), key=lambda each: each.body.number
    )  # clocks are set back, numbers are not
    newest = {(each.body.cluster, each.body.instance): each for each in given}
    for each in ledger.instances:
        found = newest.get((each.cluster, each.instance))
        yield found or f"cluster {each.cluster}: nobody certified that instance {each.instance} went"


def _named(given: Given) -> dict[str, Any]:
    body = given.body
    named = {"cluster": body.cluster, "instance": body.instance, "name": body.name, "verdict": body.verdict}
    return {**named, "place": layout.certificate(body.stack_id, body.stem, body.number), "digest": given.digest}


def _usage(known: Evidence, ended: str) -> dict[str, Any]:
    if not known.events:
        return {}
    return dataclasses.asdict(usage.used(known.events, known.seen, dt.datetime.fromisoformat(ended)))


def _total(clusters: list[Certificate]) -> dict[str, Any]:
    told = [each.usage for each in clusters if each.usage]
    names = [field.name for field in dataclasses.fields(usage.Usage)]
    return {name: round(sum(each.get(name, 0) for each in told), 6) for name in names} if told else {}


def _store(location: str | None, away: list[str]) -> Store | None:
    try:
        return losses.opened(location) if location else None
    except EvacuationError as error:
        away.append(str(error))
        return None


def _settle(known: Evidence) -> None:
    if known.folder.parent.name == PENDING:
        shutil.rmtree(known.folder)
    elif known.ledger.subject == "stack":
        (known.folder / "ledger.json").unlink(missing_ok=True)


def _is_cluster(known: Evidence) -> bool:
    return known.ledger.subject == "cluster"


def _empty(settings: SaverSettings | None) -> bool:
    try:
        return settings is not None and not os.listdir(settings.workspace)
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _unsaved(known: Evidence) -> dict[str, Any]:
    """What is in the workspace and not in the store, counted; nothing where it cannot be counted any more."""
    if known.settings is None:
        return {}
    try:
        memory = json.loads((known.folder / "evacuation.json").read_text())["state"]
        settings = known.settings.model_copy(update={"state": Path(memory)})
        with closing(cache_of(settings, Coder.of(settings.encrypt_key))) as cache:
            pending = looking.look(settings, cache, strict=False)
    except (OSError, ValueError, KeyError, EvacuationError, sqlite3.Error):
        return {}
    return {"unsaved": pending.count, "unsaved_bytes": pending.size}


def _software() -> dict[str, str]:
    found = {"python": platform.python_version(), "linux": platform.release()}
    for name in ("stackyard", "ray"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def price(found: list[dict[str, Any]] | list[Leak]) -> tuple[float, int]:
    """What leaks cost a day in all, and how many of them have no price that anybody told."""
    plain = [each if isinstance(each, dict) else dataclasses.asdict(each) for each in found]
    known = [each["price"] for each in plain if each["price"] is not None]
    return round(sum(known), 4), len(plain) - len(known)
