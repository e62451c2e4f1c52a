"""Messages leave in threads of their own, one a destination, so that nobody waits for a mail server that is away.

A message stays in the state's outbox until its destination took it: a process that dies sends it again, under the
same id. Destinations are secrets; no log line and no error holds them.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from stackyard.clock import Clock
from stackyard.monitoring import alerts
from stackyard.monitoring.alerts import Event, State
from stackyard.monitoring.webhooks import NotDeliveredError, post
from stackyard.spec.loop import AlertsSpec

BACK_OFF = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
"""Seconds between tries of one message; the last one repeats."""
REFUSALS = 3
"""Times a destination may say that it will never take a message before that message is dropped."""
Send = Callable[[str, Mapping[str, Any]], None]
_log = logging.getLogger(__name__)


class Alerts:
    """Takes events, tells people and programs, and gives its state back to be kept.

    `secrets`: the name of each secret of the spec, and its value. `state`: what `poll` gave last, before a restart.
    """

    def __init__(
        self,
        spec: AlertsSpec,
        secrets: Mapping[str, str],
        clock: Clock,
        *,
        model: str = "",
        state: Mapping[str, Any] | None = None,
        back_off: Sequence[float] = BACK_OFF,
        senders: Mapping[str, Send] | None = None,
    ) -> None:
        self._spec, self._secrets, self._clock, self._model = spec, dict(secrets), clock, model
        self._back_off, self._senders = tuple(back_off), senders or SENDERS
        self._state: State = {**alerts.fresh(), **dict(state or {})}
        self._heard: queue.SimpleQueue[tuple[str, str | None, bool]] = queue.SimpleQueue()
        self._queues: dict[str, queue.SimpleQueue[dict[str, Any] | None]] = {}
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        for message in self._state["outbox"].values():
            self._hand_over(message)

    def offer(self, events: Iterable[Event]) -> None:
        """Take note of what is the case and of what happened; returns at once."""
        self._state, messages = alerts.due(self._state, events, self._spec, self._clock.now(), self._model)
        for message in messages:
            self._hand_over(message)

    def poll(self) -> State:
        """The state to keep: after what was delivered since, and with groups that have become due on their way."""
        while True:
            try:
                identity, why, dropped = self._heard.get_nowait()
            except queue.Empty:
                break
            if why is None:
                self._state = alerts.delivered(self._state, identity)
            else:
                self._state = alerts.failed(self._state, identity, why, self._clock.now(), dropped=dropped)
        self.offer(())
        return self._state

    def close(self, patience: float = 0.0) -> None:
        """End the threads, after what a destination takes within `patience` seconds; the outbox keeps the rest."""
        for waiting in self._queues.values():
            waiting.put(None)
        end = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._stop.set()

    def _hand_over(self, message: dict[str, Any]) -> None:
        destination = message["destination"]
        if destination not in self._queues:
            self._queues[destination] = queue.SimpleQueue()
            thread = threading.Thread(
                target=self._deliver, args=(self._queues[destination],), name=f"alerts {destination}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        self._queues[destination].put(message)

    def _deliver(self, waiting: queue.SimpleQueue[dict[str, Any] | None]) -> None:
        while (message := waiting.get()) is not None and not self._stop.is_set():
            tries = refusals = 0
            while not self._stop.is_set():
                why, final = self._try(message)
                refusals += final
                dropped = refusals >= REFUSALS
                self._heard.put((message["id"], why, dropped))
                if why is None or dropped:
                    break
                if tries == 0 or dropped:
                    _log.warning("%s does not take a message: %s", message["destination"], why)
                self._stop.wait(self._back_off[min(tries, len(self._back_off) - 1)])
                tries += 1

    def _try(self, message: Mapping[str, Any]) -> tuple[str | None, bool]:
        """Why a message was not taken, or None, and whether that is the receiver's last word."""
        secret = self._secrets.get(message["secret"])
        if not secret:
            return f"the secret {message['secret']} is not set", False
        try:
            self._senders[message["kind"]](secret, message)
        except NotDeliveredError as error:
            return str(error), error.final
        except Exception as error:  # noqa: BLE001  a library's error may hold the address, so only its kind is told
            return type(error).__name__, False
        return None, False


def notify(secret: str, message: Mapping[str, Any]) -> None:
    """Deliver by Apprise to the URL in `secret`. Raises NotDeliveredError, which never names the URL."""
    logging.getLogger("apprise").disabled = True  # it logs addresses
    import apprise

    told = apprise.Apprise(asset=apprise.AppriseAsset(async_mode=False, app_id="Stackyard"))
    if not told.add(secret.strip()):
        raise NotDeliveredError("the secret is not an Apprise URL")
    if not told.notify(title=str(message["title"]), body=str(message["body"])):
        raise NotDeliveredError("it was not taken")


def _webhook(secret: str, message: Mapping[str, Any]) -> None:
    post(secret, message, time.time())


SENDERS: dict[str, Send] = {"apprise": notify, "webhook": _webhook}
