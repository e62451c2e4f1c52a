"""What a person asks of the loop, signed with the stack's operator key and left in the store's inbox.

The controller carries a wish out when it next looks; it may be away now. Whether a wish can mean anything is said at
once.
"""

from __future__ import annotations

import datetime as dt
import getpass
import json
from pathlib import Path
from typing import Any

from stackyard.cli import versions
from stackyard.cli.failures import USAGE, Failure
from stackyard.cli.stack import StackCard, find, open_store
from stackyard.clock import clock_of
from stackyard.store import inbox
from stackyard.store.chain import former
from stackyard.store.inbox import Kind, Wish
from stackyard.store.keys import KeyFileError, ensure_signing_key

CLOSED = {"running", "failed", "ungated", "refused", "superseded", "rejected", "stopped", "expired", "rolled_back"}


def reject(stack: str, name: str, because: str, *, as_json: bool) -> None:
    """Never let version `name` become champion. Raises Failure when it is, or when it ended already."""
    card = find(stack)
    past = versions.gather(card)
    version = versions.find(past, name)
    if version.outcome in ("live", "replaced"):
        raise Failure(f"version {version.number} is {version.outcome}: `stackyard rollback` takes a champion back")
    if version.outcome in CLOSED - {"running", "ungated"}:
        raise Failure(f"version {version.number} will not be promoted anyway: it is {version.outcome}")
    _send(card, "reject", because, f"version {version.number} is rejected", as_json, run=version.run_id)


def promote(stack: str, name: str, because: str, *, as_json: bool) -> None:
    """Let version `name` become champion without waiting for its stages; gates and approvals it needs as ever."""
    card = find(stack)
    version = versions.find(versions.gather(card), name)
    if version.outcome == "live":
        raise Failure(f"version {version.number} is live already")
    if version.outcome == "replaced":
        raise Failure(f"version {version.number} was champion before: `stackyard rollback --to {version.number}`")
    if version.outcome in CLOSED:
        raise Failure(f"version {version.number} cannot be promoted: it is {version.outcome}: {version.because}")
    _send(card, "promote", because, f"version {version.number} is to be promoted", as_json, run=version.run_id)


def rollback(stack: str, to: str | None, because: str, *, as_json: bool) -> None:
    """Return to version `to`, or end the rollout, or return to the champion before. Raises Failure when there is none.

    The wish names the bundle that is meant now, so that whatever is released meanwhile does not change its sense.
    """
    card = find(stack)
    past = versions.gather(card)
    if not past.chain:
        raise Failure("there is no champion yet, so nothing can be taken back")
    live = past.chain[-1]
    rolling = live.step is not None and live.outcome is None  # a watch's arm is the champion before
    if to is not None:
        version = versions.find(past, to)
        bundle = version.bundle
        if bundle is None or bundle not in {release.champion for release in past.chain}:
            raise Failure(f"version {version.number} was never champion (it is {version.outcome})")
    elif rolling:
        bundle = live.champion
    elif (before := former(past.chain)) is not None:
        bundle = before
    elif len({release.champion for release in past.chain}) == 1:
        raise Failure("the champion is the first there was: there is nothing to return to")
    else:
        raise Failure("every champion before this one was taken back: name one with `--to VERSION` if it is to return")
    if bundle == live.champion and not rolling:
        raise Failure(f"bundle {bundle[:12]} is live already")
    said = "the challenger is to be taken back" if bundle == live.champion else f"bundle {bundle[:12]} is to return"
    _send(card, "rollback", because, said, as_json, bundle=bundle, release=live.number)


def train(stack: str, because: str, *, as_json: bool) -> None:
    """Ask for a retraining now."""
    card = find(stack)
    past = versions.gather(card)
    if not past.chain:
        raise Failure("the first model is not there yet: it is trained without being asked for")
    _send(card, "train", because, "a retraining is asked for", as_json, release=past.chain[-1].number)


def pause(stack: str, because: str, *, as_json: bool) -> None:
    """Begin no retraining and no rollout until `resume`."""
    _send(find(stack), "pause", because, "the loop is to pause", as_json)


def resume(stack: str, because: str, *, as_json: bool) -> None:
    """End a pause. Raises Failure when there is none."""
    card = find(stack)
    if versions.gather(card).wanted.paused is None:
        raise Failure("the loop is not paused")
    _send(card, "resume", because, "the loop is to go on", as_json)


def release_day(stack: str, day: str, because: str, *, as_json: bool) -> None:
    """Believe a quarantined day after all."""
    try:
        meant = dt.date.fromisoformat(day)
    except ValueError:
        raise Failure(f"{day} is not a date, such as 2013-05-01", USAGE) from None
    _send(find(stack), "release_day", because, f"the data of {meant} is to be believed", as_json, day=meant)


def now(card: StackCard) -> dt.datetime:
    """The present by the stack's clock. Raises Failure while a virtual one has no time."""
    try:
        return clock_of(None if card.clock is None else Path(card.clock)).now()
    except (OSError, ValueError) as error:
        raise Failure(f"the stack's clock tells no time: {error}") from None


def _send(card: StackCard, kind: Kind, because: str, said: str, as_json: bool, **about: Any) -> None:
    if not because.strip():
        raise Failure("--because needs a reason: it is what others will read", USAGE)
    if len(because) > 1000:
        raise Failure(f"--because takes 1000 characters, this has {len(because)}", USAGE)
    path = Path(card.operator_key)
    if not card.operator_key or not path.exists():
        raise Failure(f"there is no operator key of stack {card.stack} here: `pulumi up -s {card.stack}` makes it")
    try:
        key = ensure_signing_key(path)
    except (KeyFileError, OSError, ValueError) as error:
        raise Failure(f"the operator key: {error}") from None
    wish = Wish(
        id=inbox.new_id(),
        model=card.model,
        kind=kind,
        because=because.strip(),
        by=getpass.getuser(),
        created=now(card).isoformat(timespec="seconds"),
        **about,
    )
    inbox.send(open_store(card), wish, key)
    if as_json:
        print(json.dumps(wish.model_dump(mode="json", exclude_none=True)))
    else:
        print(f"{said}; wish {wish.id} is in the inbox, `stackyard status -s {card.stack}` shows what comes of it")
