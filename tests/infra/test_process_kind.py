"""A process under a supervisor that exists only here: what is restarted, what is only told, what is left alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stackyard_infra.provider import processes
from stackyard_infra.provider.daemon import Unreachable
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.processes import ProcessKind
from stackyard_infra.provider.site import Site


class FakeSupervisor:
    """Runs nothing; remembers what it was asked. A process it runs takes up its settings at once."""

    def __init__(self) -> None:
        self.running: dict[str, str] = {}
        self.asked: list[tuple[str, ...]] = []
        self.there = True
        self.crashing = False
        self.spawned = 1
        self.word: Path | None = None
        self.settings: Path | None = None

    def __call__(self, site: Site) -> FakeSupervisor:
        return self

    def states(self) -> dict[str, dict[str, Any]]:
        if not self.there:
            raise Unreachable
        self.spawned += self.crashing
        return {name: {"statename": state, "start": self.spawned} for name, state in self.running.items()}

    def run(self, name: str) -> None:
        self.asked.append(("run", name))
        self.running[name] = "RUNNING"
        self._take_up()

    def end(self, name: str) -> None:
        if not self.there:
            raise Unreachable
        self.asked.append(("end", name))
        self.running.pop(name, None)

    def start_now(self, name: str) -> None:
        self.asked.append(("start", name))
        self.running[name] = "RUNNING"

    def signal(self, name: str, signal: str) -> None:
        self.asked.append((signal, name))
        self._take_up()

    def _take_up(self) -> None:
        if self.word is not None and self.settings is not None:
            self.word.write_text(hashlib.sha256(self.settings.read_bytes()).hexdigest())


@pytest.fixture
def supervisor() -> FakeSupervisor:
    return FakeSupervisor()


@pytest.fixture
def kind(supervisor: FakeSupervisor, monkeypatch: pytest.MonkeyPatch) -> ProcessKind:
    monkeypatch.setattr(processes, "GRACE", 0.0)
    return ProcessKind(supervisor)  # pyright: ignore[reportArgumentType]


def test_create_writes_private_files_and_runs(kind: ProcessKind, supervisor: FakeSupervisor, process: Callable):
    inputs = process("web", files={"settings.json": "{}"}, secrets={"TOKEN": "canary"})
    assert kind.create(inputs) == {"healthy": True}
    assert supervisor.asked[-1] == ("run", "web")
    folder = Path(inputs["site"]["state"]) / "etc" / "web"
    assert (folder / "settings.json").read_text() == "{}"
    assert (folder / "secrets" / "TOKEN").read_text() == "canary"
    assert "canary" not in (folder / "launch.json").read_text()
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.rglob("*"))


def test_a_create_that_was_killed_after_its_work_is_adopted(
    kind: ProcessKind, supervisor: FakeSupervisor, process: Callable
):
    kind.create(process("web"))
    supervisor.asked.clear()
    assert kind.create(process("web")) == {"healthy": True}
    assert supervisor.asked == []


def test_a_create_that_finds_another_command_running_restarts_it(
    kind: ProcessKind, supervisor: FakeSupervisor, process: Callable
):
    kind.create(process("web"))
    supervisor.asked.clear()
    kind.create(process("web", command=["sleep", "2000"]))
    assert supervisor.asked == [("end", "web"), ("run", "web")]


@pytest.mark.parametrize(
    ("reload", "change", "asked"),
    [
        pytest.param("hup", {"files": {"settings.json": "2"}}, [("HUP", "web")], id="files-by-signal"),
        pytest.param("restart", {"files": {"settings.json": "2"}}, [("end", "web"), ("run", "web")], id="files"),
        pytest.param("hup", {"command": ["sleep", "9"]}, [("end", "web"), ("run", "web")], id="command"),
        pytest.param("hup", {"environment": {"A": "1"}}, [("end", "web"), ("run", "web")], id="environment"),
        pytest.param("hup", {"secrets": {"T": "1"}}, [("end", "web"), ("run", "web")], id="secrets"),
        pytest.param("hup", {"version": "2"}, [("end", "web"), ("run", "web")], id="version"),
        pytest.param("restart", {"health": {"timeout": 11}}, [], id="probe-only"),
    ],
)
def test_an_update_disturbs_a_process_no_more_than_its_change_needs(
    kind: ProcessKind, supervisor: FakeSupervisor, process: Callable, reload: str, change: dict, asked: list
):
    inputs = process("web", files={"settings.json": "1"}, reload=reload)
    state = inputs | kind.create(inputs)
    supervisor.asked.clear()
    assert kind.update(state, inputs | change) == {"healthy": True}
    assert supervisor.asked == asked


def test_an_update_by_signal_waits_until_the_process_says_it_took_up_its_settings(
    kind: ProcessKind, supervisor: FakeSupervisor, process: Callable, tmp_path: Path
):
    supervisor.word = tmp_path / "serving.ready"
    health = {"acknowledges": str(supervisor.word), "file": "settings.json", "timeout": 1}
    inputs = process("serving", files={"settings.json": "1"}, reload="hup", health=health)
    supervisor.settings = Path(inputs["site"]["state"]) / "etc" / "serving" / "settings.json"
    state = inputs | kind.create(inputs)
    kind.update(state, inputs | {"files": {"settings.json": "2"}})
    supervisor.settings = None
    with pytest.raises(Refusal, match="has not taken up its settings"):
        kind.update(state, inputs | {"files": {"settings.json": "3"}})


def test_read_tells_the_truth(kind: ProcessKind, supervisor: FakeSupervisor, process: Callable):
    inputs = process("web", files={"settings.json": "1"})
    state = inputs | kind.create(inputs)
    assert kind.read(state) == {"healthy": True}, "nothing may differ right after create"
    file = Path(inputs["site"]["state"]) / "etc" / "web" / "settings.json"
    file.write_text("edited by hand")
    assert kind.read(state) == {"healthy": True, "files": {"settings.json": "edited by hand"}}
    file.unlink()
    assert kind.read(state) == {"healthy": True, "files": {}}
    supervisor.running["web"] = "BACKOFF"
    assert (kind.read(state) or {})["healthy"] is False
    supervisor.running.clear()
    assert kind.read(state) is None
    supervisor.there = False
    assert kind.read(state) is None


def test_an_unhealthy_process_is_started_without_waiting_for_its_back_off(
    kind: ProcessKind, supervisor: FakeSupervisor, process: Callable
):
    state = process("web") | kind.create(process("web"))
    supervisor.running["web"] = "BACKOFF"
    state |= kind.read(state)
    supervisor.asked.clear()
    assert kind.drift(state) == {"healthy"}
    assert kind.update(state, process("web")) == {"healthy": True}
    assert supervisor.asked == [("start", "web")]


def test_what_never_gets_healthy_is_one_error_with_the_end_of_its_log(kind: ProcessKind, process: Callable):
    inputs = process("web", health={"tcp": 1, "timeout": 0.3})
    log = Path(inputs["site"]["state"]) / "logs" / "web.log"
    log.parent.mkdir()
    log.write_text("first line\nit broke because of X\n")
    with pytest.raises(Refusal) as refused:
        kind.create(inputs)
    assert "web is not healthy after 0.3 s" in str(refused.value)
    assert str(log) in str(refused.value)
    assert "it broke because of X" in str(refused.value)


def test_what_ends_as_often_as_it_is_started_is_not_waited_for(
    kind: ProcessKind, supervisor: FakeSupervisor, process: Callable
):
    supervisor.crashing = True
    with pytest.raises(Refusal, match="ends as often as it is started"):
        kind.create(process("web", health={"tcp": 1, "timeout": 600}))


def test_delete_ends_and_forgets_even_without_a_supervisor(
    kind: ProcessKind, supervisor: FakeSupervisor, process: Callable
):
    state = process("web") | kind.create(process("web"))
    kind.delete(state)
    assert supervisor.asked[-1] == ("end", "web")
    assert not (Path(state["site"]["state"]) / "etc" / "web").exists()
    supervisor.there = False
    kind.delete(state)
