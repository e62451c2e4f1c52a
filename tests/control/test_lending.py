"""The controller has leases looked after whatever becomes of its loop, and tells of them once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lent import Lent, gone, lent
from stackyard.control.journal import Journal
from stackyard.control.lending import COMMAND, MOST, Lending, clusters
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


def lending(
    told: ControllerSettings,
    letters: Letters,
    answer: Path | None = None,
    script: str = "import sys; print(open(sys.argv[1]).read())",
    **changes: float,
) -> Lending:
    """`answer`: a file with what a look says, instead of a real one; or what the `script` makes of it."""
    command = COMMAND if answer is None else (sys.executable, "-c", script, str(answer))
    return Lending(told, SPEC, SECRETS, senders={"apprise": letters, "webhook": letters}, command=command, **changes)


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


HANGS_ONCE = """
import pathlib, sys, time
place = pathlib.Path(sys.argv[1])
mine = place.with_name("first")
try:
    mine.open("x").close()
except FileExistsError:
    print(place.read_text())
else:
    while mine.exists():
        time.sleep(0.02)
    print(place.read_text().replace("it ends soon", "it was saved at last"))
"""


def test_a_cluster_that_is_long_at_its_save_holds_up_no_other(bench: Lent, tmp_path: Path) -> None:
    answer, letters = tmp_path / "answer", Letters()
    events = [event("lease:bench:warning", "it ends soon")]
    busy = {"cluster": "other", "outcome": "busy", "failed": "another reaper is at it"}
    answer.write_text(json.dumps({"clusters": [busy, {"cluster": "bench", "events": events}]}))
    one = lending(settings(bench, tmp_path), letters, answer, HANGS_ONCE, long=0.5)
    while not (tmp_path / "first").exists():
        assert one.look() is None
    found = one.look()
    while found is None:  # a busy machine starts no process in half a second
        found = one.look()
    assert "other" not in one._failed, "who is at work has not failed"
    first = one._looks[0]
    (tmp_path / "first").unlink()
    first.child.wait(30)
    (tmp_path / "first").touch()
    while first in one._looks:
        one.look()
    for teller in one._tellers.values():
        teller.close(10)
    one.stop()
    assert one._looks == []
    assert "it ends soon" in letters.taken[0][1]


def test_of_looks_that_never_end_there_are_only_so_many_and_none_is_left(bench: Lent, tmp_path: Path) -> None:
    script = "import time\ntime.sleep(600)"
    one = lending(settings(bench, tmp_path), Letters(), tmp_path / "answer", script, long=0.0)
    for _ in range(MOST + 3):
        assert one.look() is None
    running = [each.child for each in one._looks]
    assert len(running) == MOST
    one.stop()
    assert all(child.poll() is not None for child in running)


@pytest.mark.parametrize("odd", [{"signals": 5}, {"signals": [1], "resumed": 7}, {"counts": 1, "at": {}}])
def test_what_is_odd_about_one_cluster_keeps_no_lease_from_ending(
    bench: Lent, tmp_path: Path, odd: dict[str, Any]
) -> None:
    bench.write("idle.json", odd)
    answer = tmp_path / "answer"
    answer.write_text(json.dumps({"clusters": []}))
    one = lending(settings(bench, tmp_path), Letters(), answer)
    assert one.look() == {"clusters": []}
    one.stop()


def test_a_folder_that_somebody_closed_is_among_the_clusters_and_hides_no_other(
    bench: Lent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, lstat, stat = bench.folder.with_name("closed"), Path.lstat, Path.stat
    closed.mkdir()

    def asked(ask: Callable[..., Any]) -> Callable[..., Any]:
        def deny(path: Path, **how: Any) -> Any:
            if path.parent == closed:
                raise PermissionError(13, "Permission denied")
            return ask(path, **how)

        return deny

    monkeypatch.setattr(Path, "lstat", asked(lstat))
    monkeypatch.setattr(Path, "stat", asked(stat))
    assert clusters(bench.folder.parent) == [bench.folder, closed]


def test_another_owner_hears_of_it_from_the_next_look_on(bench: Lent, tmp_path: Path) -> None:
    answer, letters = tmp_path / "answer", Letters()
    one = lending(settings(bench, tmp_path), letters, answer)
    one._spec = AlertsSpec.model_construct(owners={}, group=0.0)
    one._secrets["BOB_MAIL"] = "json://bob"
    for name in ("ADA_MAIL", "BOB_MAIL"):
        events = [event(f"lease:bench:{name}", f"for {name}")]
        answer.write_text(json.dumps({"clusters": [{"cluster": "bench", "tell": [name], "events": events}]}))
        one.look()
        for teller in one._tellers.values():
            teller.close(10)
    one.stop()
    assert [where for where, _ in letters.taken] == ["json://ada", "json://bob"]


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
