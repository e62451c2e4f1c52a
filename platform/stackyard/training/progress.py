"""How far a run is, for whoever looks: `runs/<run>/progress.json` and lines on standard output."""

from __future__ import annotations

import json
import threading
import time
from types import TracebackType
from typing import Any, Self

from stackyard.store import layout
from stackyard.store.documents import canonical
from stackyard.store.objects import Store


class Progress:
    """Writes the run's progress; the newest word replaces the one before."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store, self._run = store, run_id

    def write(self, phase: str, **facts: Any) -> None:
        """Say that the run is in `phase`; `facts` are JSON values."""
        found = {"kind": "run-progress", "version": 1, "run_id": self._run, "phase": phase, "time": time.time()}
        self._store.write(layout.run(self._run, "progress.json"), canonical({**found, **facts}))

    def read(self) -> dict[str, Any]:
        """The newest word, or nothing."""
        try:
            return json.loads(self._store.read(layout.run(self._run, "progress.json")))
        except (KeyError, ValueError):
            return {}

    def say(self, phase: str, text: str, **facts: Any) -> None:
        """Write it and print one line."""
        print(f"{phase}: {text}", flush=True)
        self.write(phase, **facts)


class Echo:
    """Prints what workers write to the progress, while the block runs: their own output stays in Ray's logs."""

    def __init__(self, progress: Progress, *, interval: float = 0.25) -> None:
        self._progress, self._interval = progress, interval
        self._end, self._thread = threading.Event(), threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        self._thread.join(5)

    def _run(self) -> None:
        last: tuple[Any, ...] = ()
        warned: set[str] = set()
        while True:
            ended = self._end.wait(self._interval)
            found = self._progress.read()
            for text in found.get("warnings", ()):
                if text not in warned:
                    warned.add(text)
                    print(f"warning: {text}", flush=True)
            now = (found.get("stage"), found.get("round"))
            if now != last and now[1] is not None:
                last = now
                figure = f", {found['metric']} {found['value']:.4f}" if found.get("value") is not None else ""
                print(f"training: {found['stage']} {found['round']}/{found['rounds']} rounds{figure}", flush=True)
            if ended:
                return
