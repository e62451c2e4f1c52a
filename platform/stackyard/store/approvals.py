"""Where a promotion needs people's consent: signatures by named keys over exactly what was looked at.

A signature binds run, bundle, gate report and plan. When any of them changes, it is a signature of something else and
counts no more. Objects are named by their content, so nobody can take an approver's place in the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from stackyard.store import layout
from stackyard.store.documents import Document, DocumentError, public_text, verify
from stackyard.store.objects import Store, sha256
from stackyard.store.releases import Digest

KIND, VERSION = "approval", 1


class Subject(BaseModel):
    """What is approved; digests are hex sha256."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str
    run_id: str
    bundle: Digest
    """The bundle that would become champion: the refitted one."""
    gate: Digest
    """sha256 of the stored gate report."""
    plan: str
    """Digest of the lowered plan of the stack."""


class Approval(BaseModel):
    """One person's consent."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    subject: Subject
    by: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    """The approver's name in the environment's spec."""
    created: str
    """RFC 3339, UTC."""


@dataclass(frozen=True)
class Count:
    """Who has approved."""

    names: tuple[str, ...]
    """Approvers whose signature over the subject holds, each key once."""
    void: tuple[str, ...]
    """Why other documents do not count."""


def own_key_path() -> Path:
    """Where a person's approver key rests on their machine."""
    return Path.home() / ".config" / "stackyard" / "approver.key"


def subject_of(store: Store, model: str, run_id: str, bundle: str, plan: str) -> Subject:
    """The subject as the store has it now. Raises KeyError while there is no gate report."""
    return Subject(
        model=model, run_id=run_id, bundle=bundle, gate=sha256(store.read(layout.gate(model, run_id))), plan=plan
    )


def approve(store: Store, approval: Approval, key: Ed25519PrivateKey) -> bool:
    """Store the signed `approval`; False when the very same is there."""
    data = Document(KIND, VERSION, approval.model_dump(mode="json")).sign(key)
    subject = approval.subject
    return store.create(layout.approval(subject.model, subject.run_id, f"{approval.by}-{sha256(data)[:16]}"), data)


def name_of(key: Ed25519PrivateKey, approvers: Mapping[str, str]) -> str | None:
    """The name under which `approvers` (name to public half) know `key`."""
    public = public_text(key.public_key())
    return next((name for name, known in approvers.items() if known == public), None)


def listed(store: Store, model: str, run_id: str) -> tuple[str, ...]:
    """Keys of all approvals of a run; since each is named by its content, equal keys count alike."""
    return tuple(store.keys(f"approvals/{model}/{run_id}"))


def count(store: Store, subject: Subject, approvers: Mapping[str, str]) -> Count:
    """Count the approvals of exactly `subject` by the keys of `approvers`; a key under two names counts once."""
    names: dict[str, str] = {}
    void: list[str] = []
    for key in listed(store, subject.model, subject.run_id):
        stem = key.rpartition("/")[2].removesuffix(".json")
        try:
            found = _judged(store, key, approvers)
        except DocumentError as error:
            void.append(f"{stem}: {error}")
            continue
        changed = [name for name in Subject.model_fields if getattr(found.subject, name) != getattr(subject, name)]
        if changed:
            void.append(f"{found.by} signed another {' and '.join(changed)}")
        else:
            names.setdefault(approvers[found.by], found.by)
    return Count(tuple(sorted(names.values())), tuple(void))


def _judged(store: Store, key: str, approvers: Mapping[str, str]) -> Approval:
    try:
        data = store.read(key)
    except KeyError:
        raise DocumentError("it vanished") from None
    try:
        found = Approval.model_validate(verify(data, kind=KIND, newest=VERSION, trusted=approvers.values()).body)
    except ValidationError as error:
        raise DocumentError(f"it lacks or mistypes {error.error_count()} fields") from None
    if found.by not in approvers:
        raise DocumentError(f"{found.by} is no approver here")
    verify(data, kind=KIND, newest=VERSION, trusted=[approvers[found.by]])  # by this key, not by a colleague's
    return found
