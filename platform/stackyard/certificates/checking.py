"""Does a certificate still hold? Its signature was checked by whoever read it; this asks for what it claims, again.

What runs again under the same name cannot be asked whether it is gone: that is said, and is no failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stackyard.certificates import leaks, losses
from stackyard.certificates import ledger as ledgers
from stackyard.certificates.certificate import Certificate, CertificateError, Given, read, trusted
from stackyard.certificates.ledger import Ledger
from stackyard.certificates.looking import look
from stackyard.certificates.scene import Scene
from stackyard.evacuation.settings import SaverSettings
from stackyard.store.documents import digest_of


@dataclass(frozen=True)
class Check:
    """One claim. `holds` is None where it cannot be asked any more."""

    claim: str
    holds: bool | None
    because: str = ""


def check(given: Given, state: Path, look: Callable[[Ledger], Scene] = look) -> Iterator[Check]:
    """Every claim of a certificate, asked again; `state` is the stack's folder in the checkout."""
    body = given.body
    yield Check("it is signed by a key of this stack", True)
    yield Check("its ledger is the one that was searched by", digest_of(body.ledger) == body.ledger_digest)
    agrees = body.clean is (body.verdict == "clean") and not (body.clean and (body.leaks or body.losses))
    yield Check("what it says agrees with itself", agrees and not (body.clean and body.given_up))
    ended = body.verdict in ("clean", "given-up")
    yield Check("nothing leaked and nothing was lost", ended, "" if ended else f"it says: {body.verdict}")
    yield _gone(body, state, look)
    if body.saver is not None and body.receipt is not None:
        yield _safe(body)
    for each in body.clusters:
        yield from _of_cluster(each, given.path.parent, state, look)


def _gone(body: Certificate, state: Path, look: Callable[[Ledger], Scene]) -> Check:
    claim = f"{body.title} is gone"
    again = state / "ledger.json" if body.subject == "stack" else state / "leases" / str(body.cluster)
    if again.exists():
        return Check(claim, None, "it is up again")
    try:
        ledger = ledgers.read(body.ledger, "its ledger")
    except ledgers.LedgerError as error:
        return Check(claim, False, str(error))
    left = leaks.find(ledger, look(ledger)).leaks
    return Check(claim, not left, "; ".join(f"{each.kind} {each.what}: {each.why}" for each in left[:5]))


def _safe(body: Certificate) -> Check:
    claim = f"all that was in {body.title} can be had back"
    try:
        settings = settings_of(body)
    except ValueError as error:
        return Check(claim, False, str(error))
    proof = losses.prove(settings, {})
    same = proof.receipt is not None and body.receipt is not None
    same = same and proof.receipt["manifest"] == body.receipt["manifest"]  # type: ignore[index]
    if proof.verdict == "unproven":
        return Check(claim, None, "; ".join(proof.why))
    return Check(claim, proof.verdict == "safe" and same, "; ".join(proof.why))


def settings_of(body: Certificate) -> SaverSettings:
    """The saver's settings of before, as far as reading the store needs them. Raises ValueError."""
    nowhere = "/nonexistent"
    told = {"stack": body.stack, "stack_id": body.stack_id, "receipt_key": nowhere}
    told |= {"workspace": f"{nowhere}/workspace", "state": f"{nowhere}/state", **(body.saver or {})}
    return SaverSettings.model_validate(told)


def _of_cluster(named: dict[str, str], folder: Path, state: Path, look: Callable[[Ledger], Scene]) -> Iterator[Check]:
    claim, path = f"the certificate of cluster {named['cluster']} is the one it names", folder / f"{named['name']}.json"
    try:
        given = read(path.read_bytes(), path, trusted(folder))
    except (OSError, CertificateError) as error:
        yield Check(claim, False, str(error))
        return
    yield Check(claim, given.digest == named["digest"])
    yield _gone(given.body, state, look)
    if given.body.saver is not None and given.body.receipt is not None:
        yield _safe(given.body)
