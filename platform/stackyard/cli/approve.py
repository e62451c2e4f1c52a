"""`stackyard approve`: a person's signature over the bundle, the gate report and the plan that they looked at."""

from __future__ import annotations

import json
from pathlib import Path

from stackyard.cli import versions
from stackyard.cli.failures import POLICY, USAGE, Failure
from stackyard.cli.stack import find, open_store, spec
from stackyard.cli.wishes import now
from stackyard.store import approvals
from stackyard.store.approvals import Approval
from stackyard.store.documents import public_text
from stackyard.store.keys import KeyFileError, ensure_signing_key


def run(name: str | None, stack: str, *, key: Path | None, show_key: bool, as_json: bool) -> None:
    """Show the public half of this person's key (made when absent), or approve version `name`. Raises Failure."""
    path = key or approvals.own_key_path()
    if show_key:
        return _show(path, as_json)
    if name is None:
        raise Failure("approve takes a VERSION, or --show-key", USAGE)
    card = find(stack)
    wanted = spec(stack).environment.approvals
    if not path.exists():
        raise Failure(f"{path} does not exist: `stackyard approve --show-key` makes it and says what to write where")
    try:
        private = ensure_signing_key(path)
    except (KeyFileError, OSError, ValueError) as error:
        raise Failure(str(error)) from None
    by = approvals.name_of(private, wanted.approvers)
    if by is None:
        public = public_text(private.public_key())
        raise Failure(
            f"your key is no approver's of stack {stack}: add `NAME: {public}` to approvals.approvers", POLICY
        )
    version = versions.find(versions.gather(card), name)
    if version.gate is None or not version.gate.get("passed") or version.bundle is None:
        raise Failure(
            f"version {version.number} cannot be approved: it is {version.outcome}: {version.because}", POLICY
        )
    if version.outcome not in ("ready", "rolling"):
        raise Failure(f"version {version.number} needs no approval: it is {version.outcome}", POLICY)
    if not card.plan:
        raise Failure(f"the plan of stack {stack} is not known: `pulumi up -s {stack}` notes it")
    store = open_store(card)
    subject = approvals.subject_of(store, card.model, version.run_id, version.bundle, card.plan)
    before = approvals.count(store, subject, wanted.approvers)
    if by not in before.names:
        stamp = now(card).isoformat(timespec="seconds")
        approvals.approve(store, Approval(subject=subject, by=by, created=stamp), private)
    counted = approvals.count(store, subject, wanted.approvers)
    if as_json:
        facts = {"subject": subject.model_dump(), "by": by, "approvals": counted.names, "void": counted.void}
        print(json.dumps({**facts, "required": wanted.required}))
        return None
    print(
        f"version {version.number}, bundle {version.bundle[:12]}, gate report {subject.gate[:12]}, plan "
        f"{subject.plan[:12]}: approved by {', '.join(counted.names)}; {wanted.required} needed"
    )
    return None


def _show(path: Path, as_json: bool) -> None:
    try:
        public = public_text(ensure_signing_key(path).public_key())
    except (KeyFileError, OSError, ValueError) as error:
        raise Failure(str(error)) from None
    print(json.dumps({"public_key": public, "key": str(path)}) if as_json else public)
