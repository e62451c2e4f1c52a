"""Who is told what, and when: a person gets few messages that say what to do, a program gets each event once.

Troubles of one owner within `alerts.group` are one message, a destination gets at most `alerts.daily` a day, what was
told is told again when it is over. `due` is a function of the state so far; the state is JSON and outlives a restart.
"""

from __future__ import annotations

import copy
import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from stackyard.spec.loop import AlertsSpec

Owner = Literal["data", "model", "platform"]
State = dict[str, Any]
WEBHOOK_TOPICS = frozenset({"promotion", "rollback", "drift"})
"""What is POSTed to webhooks."""
REMEMBERED = 2000
"""Moments whose ids are kept, so that one that is offered again is not told again."""
WAITING = 500
"""Messages that one destination may have outstanding; beyond it the oldest are dropped and counted."""


class Event(BaseModel):
    """Something that an owner should know of."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    key: str
    """What the trouble is, while it lasts: `drift:inputs`, `quality:2013-05-02`, `promotion:release-7`."""
    owner: Owner
    """Whose business it is."""
    what: str
    """What happened, in one sentence."""
    since: str
    """RFC 3339, UTC."""
    state: Literal["open", "resolved", "moment"] = "open"
    """A trouble that lasts, its end (the `key` suffices), or something that just happened."""
    topic: str = ""
    """`promotion`, `rollback` and `drift` go to webhooks, too."""
    cause: str = ""
    """The likely cause: which features, slice, release."""
    done: str = ""
    """What Stackyard did about it."""
    todo: str = ""
    """What the reader should do."""
    facts: dict[str, Any] = {}
    """Figures for programs."""

    @property
    def id(self) -> str:
        """What a receiver tells a second delivery by."""
        return f"{self.key}@{self.since}{'/resolved' if self.state == 'resolved' else ''}"


def fresh() -> State:
    """The state before anything was told."""
    return {
        "version": 1,
        "open": {},
        "seen": [],
        "waiting": {},
        "last": {},
        "days": {},
        "outbox": {},
        "failures": {},
    }


def due(
    state: Mapping[str, Any], events: Iterable[Event], spec: AlertsSpec, now: dt.datetime, model: str = ""
) -> tuple[State, list[dict[str, Any]]]:
    """The state after `events`, and the messages that are new in its outbox.

    A message is `{id, kind: apprise|webhook, destination, secret, title, body, created}`; for a webhook, `body` is the
    JSON to POST. An open event may be offered at every look; it is told once. A message's id depends on nothing but
    what it tells.
    """
    after = {**fresh(), **copy.deepcopy(dict(state))}
    messages: list[dict[str, Any]] = []
    for event in events:
        if (news := _news(after, event)) is None:
            continue
        if news.topic in WEBHOOK_TOPICS:
            messages += [_post(name, secret, news, model, now) for name, secret in spec.webhooks.items()]
        if spec.owners.get(news.owner) and not _never_told(after, news):
            after["waiting"].setdefault(news.owner, []).append(news.model_dump(mode="json"))
    for owner in sorted(after["waiting"]):
        last = after["last"].get(owner)
        ripe = last is None or (now - dt.datetime.fromisoformat(last)).total_seconds() >= spec.group
        if after["waiting"][owner] and ripe:
            messages += _letters(after, owner, spec, model, now)
    for message in messages:
        after["outbox"][message["id"]] = message
    _bound(after)
    return after, [message for message in messages if message["id"] in after["outbox"]]


def delivered(state: Mapping[str, Any], message: str) -> State:
    """The state once the message of that id has arrived."""
    after = copy.deepcopy(dict(state))
    found = after["outbox"].pop(message, None)
    if found is not None:
        after["failures"].pop(found["destination"], None)
    return after


def failed(state: Mapping[str, Any], message: str, why: str, now: dt.datetime, *, dropped: bool = False) -> State:
    """The state once a delivery failed; it stays in the outbox unless it is `dropped`."""
    after = copy.deepcopy(dict(state))
    found = after["outbox"].get(message)
    if found is None:
        return after
    entry = after["failures"].setdefault(found["destination"], {"since": _stamp(now), "tries": 0, "dropped": 0})
    entry["tries"] += 1
    entry["why"] = why
    if dropped:
        entry["dropped"] += 1
        del after["outbox"][message]
    return after


def _news(state: State, event: Event) -> Event | None:
    """`event` when it is not known yet, with the state taking note of it."""
    known = state["open"].get(event.key)
    if event.state == "moment":
        if event.id in state["seen"]:
            return None
        state["seen"] = [*state["seen"], event.id][-REMEMBERED:]
        return event
    if event.state == "open":
        if known is not None:
            state["open"][event.key] = {**event.model_dump(mode="json"), "since": known["since"]}
            return None
        state["open"][event.key] = event.model_dump(mode="json")
        return event
    if known is None:
        return None
    del state["open"][event.key]
    return Event.model_validate(known | {"state": "resolved", "done": event.done or known["done"], "todo": ""})


def _never_told(state: State, event: Event) -> bool:
    """Whether a trouble ended before its owner heard of it; then neither is told."""
    waiting = state["waiting"].get(event.owner, [])
    if event.state != "resolved":
        return False
    rest = [each for each in waiting if (each["key"], each["since"], each["state"]) != (event.key, event.since, "open")]
    if len(rest) == len(waiting):
        return False
    state["waiting"][event.owner] = rest
    return True


def _letters(state: State, owner: str, spec: AlertsSpec, model: str, now: dt.datetime) -> list[dict[str, Any]]:
    """One message to each destination of `owner` that may still get one today, about all that waits."""
    events = [Event.model_validate(each) for each in state["waiting"].pop(owner)]
    state["last"][owner] = _stamp(now)
    found: list[dict[str, Any]] = []
    today = now.astimezone(dt.UTC).date().isoformat()
    for secret in dict(spec.owners).get(events[0].owner, ()):
        day = state["days"].setdefault(secret, {"day": today, "sent": 0, "left_out": 0})
        if day["day"] != today:
            day |= {"day": today, "sent": 0}
        if day["sent"] >= spec.daily:
            day["left_out"] += len(events)
            continue
        day["sent"] += 1
        title, body = _text(events, owner, model, day["left_out"], spec.daily)
        day["left_out"] = 0
        found.append(
            {
                "id": _digest(secret, *(event.id for event in events)),
                "kind": "apprise",
                "destination": secret,
                "secret": secret,
                "title": title,
                "body": body,
                "created": _stamp(now),
            }
        )
    return found


def _text(events: list[Event], owner: str, model: str, left_out: int, daily: int) -> tuple[str, str]:
    where = f"{model}: " if model else ""
    title = where + (_line(events[0]) if len(events) == 1 else f"{len(events)} messages about the {owner}")
    parts = ["\n".join(_paragraph(event)) for event in events]
    if left_out:
        parts.append(f"Left out before this: {left_out}, since one day brings at most {daily} messages here.")
    return title, "\n\n".join(parts)


def _line(event: Event) -> str:
    return f"over: {event.what}" if event.state == "resolved" else event.what


def _paragraph(event: Event) -> list[str]:
    told = [("Since", event.since), ("Likely cause", event.cause), ("Done", event.done), ("To do", event.todo)]
    return [_line(event), *(f"{name}: {text}" for name, text in told if text)]


def _post(name: str, secret: str, event: Event, model: str, now: dt.datetime) -> dict[str, Any]:
    identity = _digest(name, event.id)
    payload = {"kind": "stackyard-event", "version": 1, "id": identity, "model": model, **event.model_dump(mode="json")}
    return {
        "id": identity,
        "kind": "webhook",
        "destination": f"webhook {name}",
        "secret": secret,
        "title": event.what,
        "body": json.dumps(payload, sort_keys=True),
        "created": _stamp(now),
    }


def _bound(state: State) -> None:
    """Drop the oldest messages of a destination that has been away for too long."""
    places: dict[str, list[str]] = {}
    for identity, message in state["outbox"].items():
        places.setdefault(message["destination"], []).append(identity)
    for destination, identities in places.items():
        for identity in identities[: max(0, len(identities) - WAITING)]:
            del state["outbox"][identity]
            entry = state["failures"].setdefault(destination, {"since": "", "tries": 0, "dropped": 0, "why": "full"})
            entry["dropped"] += 1


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _stamp(now: dt.datetime) -> str:
    return now.astimezone(dt.UTC).isoformat(timespec="seconds")
