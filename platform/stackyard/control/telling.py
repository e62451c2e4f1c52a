"""Leaves what the loop knows where people look: documents in the journal, messages to owners, how far it has come."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from stackyard.control import actions as a
from stackyard.control import news
from stackyard.control.candidates import candidates
from stackyard.control.journal import Journal
from stackyard.control.world import World
from stackyard.monitoring.senders import Alerts


class Telling:
    """One model's news."""

    def __init__(self, journal: Journal, model: str, alerts: Alerts | None) -> None:
        self._journal, self._model, self._alerts = journal, model, alerts

    def tell(self, world: World, due: Sequence[a.Action], reasons: Mapping[int, str], now: dt.datetime) -> bool:
        """Note the state of `world`, and hand over what people should hear of; `reasons` are those of Releases.

        Returns whether nothing is under way.
        """
        waits = [action for action in due if not isinstance(action, a.Project)]
        settled = all(isinstance(action, a.Propose | a.Wait) and not _pending(action) for action in waits)
        if world.loop is not None:
            self._journal.write(self._model, "candidates", _candidates(world), now)
            self._journal.write(self._model, "policy", _policy(waits), now)
        if self._alerts is not None and world.loop is not None:
            self._alerts.offer(news.events(world, due, reasons, now.isoformat()))
            self._journal.write(self._model, "alerts", self._alerts.poll(), now)
        # Last: whoever moves the clock on relies on everything before it being there.
        self._journal.beat(self._model, now, settled, "; ".join(action.reason for action in waits)[:1000])
        return settled


def _candidates(world: World) -> list[dict[str, object]]:
    return [
        {
            "version": each.run.number,
            "run_id": each.run.run_id,
            "bundle": each.bundle,
            "state": each.state,
            "reason": each.reason,
        }
        for each in candidates(world)
    ]


def _policy(waits: Sequence[a.Action]) -> dict[str, object]:
    """The newest decision about retraining: the last one, by the order of deciding."""
    last = waits[-1]
    until = last.until.isoformat() if isinstance(last, a.Wait) and last.until else None
    return {"decision": type(last).__name__, "reason": last.reason, "until": until}


def _pending(action: a.Action) -> bool:
    return isinstance(action, a.Wait) and action.pending
