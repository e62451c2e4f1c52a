"""MLflow is told of each Release once, and again when it was away or shows more than before."""

import datetime as dt
from pathlib import Path
from typing import Any

from stackyard.control.showing import NAME, RETRY, Showing
from stackyard.store import layout
from stackyard.store.documents import canonical
from stackyard.store.objects import Store
from stackyard.store.releases import Release

NOW = dt.datetime(2013, 5, 1, tzinfo=dt.UTC)
CHAIN = [
    Release(model="m", number=number, champion=digest * 64, reason="r", created="t")
    for number, digest in enumerate("ab", start=1)
]


class FakeProjector:
    """Remembers what it was asked to show."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.working = False

    def busy(self, run_id: str) -> bool:
        return self.working and run_id == NAME

    def start(self, run_id: str, projection: dict[str, Any]) -> None:
        assert run_id == NAME
        self.asked.append(projection["follow"])
        self.working = True


def test_each_release_is_told_once_and_again_after_a_failure_or_a_new_version(tmp_path: Path) -> None:
    store, projector = Store.open(tmp_path), FakeProjector()
    store.create(layout.run("r", "result.json"), canonical({"bundle": "a" * 64}))
    store.create(layout.gate("m", "r"), canonical({"passed": True, "reason": "all hold"}))
    showing = Showing(store, "m", "http://mlflow", projector)

    def look(chain: list[Release], shown: list[str], seconds: float = 0, *, made: bool | None = True) -> int:
        before = len(projector.asked)
        showing.step(chain, shown, NOW + dt.timedelta(seconds=seconds))
        if projector.working and made is not None:
            projector.working = False
            showing.ended(made, NOW + dt.timedelta(seconds=seconds))
        return len(projector.asked) - before

    assert look([], []) == look(CHAIN[:1], []) == 0
    assert [look(CHAIN[:1], ["r"]), look(CHAIN[:1], ["r"])] == [1, 0]
    assert projector.asked[0]["aliases"]["champion"] == "a" * 64
    assert projector.asked[0]["tags"]["a" * 64]["gate"] == "passed"
    assert look(CHAIN, ["r"], made=False) == 1
    assert [look(CHAIN, ["r"], 1), look(CHAIN, ["r"], RETRY.total_seconds()), look(CHAIN, ["r"], 99)] == [0, 1, 0]
    assert [look(CHAIN, ["r", "s"], 100, made=None), look(CHAIN, ["r", "s"], 101, made=None)] == [1, 0]


def test_without_mlflow_nothing_is_shown(tmp_path: Path) -> None:
    projector = FakeProjector()
    Showing(Store.open(tmp_path), "m", None, projector).step(CHAIN, ["r"], NOW)
    assert projector.asked == []
