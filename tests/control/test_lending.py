"""The controller has leases looked after whatever becomes of its loop, and tells of them once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lent import Lent, gone, lent
from stackyard.control.journal import Journal
from stackyard.control.lending import COMMAND, Lending, clusters
from stackyard.control.settings import ControllerSettings
from stackyard.spec.loop import AlertsSpec

SPEC = AlertsSpec(owners={"platform": ("OPS",)})
SECRETS = {"OPS": "json://ops", "ADA_MAIL": "json://ada"}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Lent]:
    made = lent(tmp_path)
    yield made
    made.clear()


def settings(bench: Lent, tmp_path: Path, **changes: Any) -> ControllerSettings:
    Journal(f"sqlite:///{tmp_path}/journal.db").migrate()
    return ControllerSettings(
        stack="lab",
        stack_id=bench.read("lease.json")["stack_id"],
        model="toy",
        store=str(bench.store),
        database=f"sqlite:///{tmp_path}/journal.db",
        signing_key=tmp_path / "release.key",
        project={},
        project_folder=tmp_path,
        checkout=tmp_path,
        runtime=tmp_path / "runtime",
        cache=tmp_path / "cache",
        log_folder=tmp_path / "logs",
        token_path=tmp_path / "token",
        node_address="127.0.0.9",
        leases=changes.get("leases", bench.folder.parent),
    )


class Letters:
    """What destinations take."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []

    def __call__(self, secret: str, message: Mapping[str, Any]) -> None:
        self.taken.append((secret, str(message["body"])))


def lending(told: ControllerSettings, letters: Letters, answer: Path | None = None) -> Lending:
    """`answer`: a file with what a look says, instead of a real one."""
    script = "import sys; print(open(sys.argv[1]).read())"
    command = COMMAND if answer is None else (sys.executable, "-c", script, str(answer))
    return Lending(told, SPEC, SECRETS, senders={"apprise": letters, "webhook": letters}, command=command)


def looked(told: ControllerSettings, answer: Path) -> list[tuple[str, str]]:
    """What is delivered after a start of the controller, two looks and its end."""
    letters = Letters()
    one = lending(told, letters, answer)
    one.look()
    for teller in one._tellers.values():
        teller.close(10)
    one.look()
    one.stop()
    return sorted(letters.taken)


def event(key: str, what: str, **changes: Any) -> dict[str, Any]:
    since = "2027-02-01T00:00:00+00:00"
    return {"key": key, "owner": "platform", "what": what, "since": since, "state": "moment", **changes}


def test_ops_and_the_owner_hear_of_it_once_also_after_a_restart(bench: Lent, tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    found = {"cluster": "bench", "tell": ["ADA_MAIL", "OPS"], "events": [event("lease:bench:warning", "it ends soon")]}
    answer.write_text(json.dumps({"clusters": [found]}))
    told = settings(bench, tmp_path)
    taken = looked(told, answer)
    assert [where for where, _ in taken] == ["json://ada", "json://ops"]
    assert all("it ends soon" in body for _, body in taken)
    assert looked(told, answer) == []


def test_a_real_look_ends_what_is_over_and_tells_of_it(bench: Lent, tmp_path: Path) -> None:
    sleeper, letters = bench.start(), Letters()
    bench.lease(ttl=600.0)
    one = lending(settings(bench, tmp_path), letters)
    found = one.look()
    assert found is not None and found["clusters"][0]["did"] == ["suspended"]
    assert gone(sleeper)
    for teller in one._tellers.values():
        teller.close(10)
    one.stop()
    assert {where for where, _ in letters.taken} == {"json://ada", "json://ops"}
    assert all("was suspended" in body for _, body in letters.taken)


def test_a_look_of_another_stack_touches_nothing(bench: Lent, tmp_path: Path) -> None:
    sleeper = bench.start()
    bench.lease(ttl=600.0)
    told = settings(bench, tmp_path).model_copy(update={"stack_id": "another"})
    one = lending(told, Letters())
    found = one.look()
    one.stop()
    assert found is not None and found["failed"] == ["bench"]
    assert (sleeper.poll(), bench.acts()) == (None, [])


def test_where_nothing_is_lent_nothing_is_started(bench: Lent, tmp_path: Path) -> None:
    for leases in (None, tmp_path / "nowhere", tmp_path):
        one = lending(settings(bench, tmp_path, leases=leases), Letters(), tmp_path / "no-such-script")
        assert one.look() is None
    assert clusters(bench.folder.parent) == [bench.folder]


def test_a_look_that_dies_is_followed_by_another(bench: Lent, tmp_path: Path) -> None:
    one = lending(settings(bench, tmp_path), Letters(), tmp_path / "no-such-answer")
    assert one.look() is None
    one.stop()


@pytest.mark.slow
def test_leases_end_while_the_controllers_store_is_away(bench: Lent, tmp_path: Path) -> None:
    """Slow: a real controller. Shows that it neither gives up nor makes a store where none is, and ends leases."""
    sleeper = bench.start()
    bench.lease(ttl=600.0, grace=0.0)
    told = settings(bench, tmp_path).model_copy(update={"store": str(tmp_path / "unmounted")})
    place = tmp_path / "controller.json"
    place.write_text(told.model_dump_json())
    controller = subprocess.Popen([sys.executable, "-m", "stackyard.control", str(place)])
    try:
        until = time.monotonic() + 60
        while bench.read("suspended.json") is None or bench.read("reaping.json") is not None:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert controller.poll() is None
    finally:
        controller.send_signal(signal.SIGTERM)
        assert controller.wait(40) == 0
    assert gone(sleeper)
    assert not (tmp_path / "unmounted").exists()
