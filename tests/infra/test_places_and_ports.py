"""Folders, keys, files and ports: made once, read truly, removed only where they are ours."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from stackyard_infra.provider import ports
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.places import ClockKind, FileKind, FolderKind, KeysKind, SiteKind
from stackyard_infra.provider.ports import PortsKind
from stackyard_infra.provider.site import Site, private_folder


@pytest.mark.parametrize(("keep", "stays"), [(True, True), (False, False)], ids=["kept", "not-kept"])
def test_a_folder_outlives_the_stack_only_when_kept(site: dict[str, str], tmp_path: Path, keep: bool, stays: bool):
    inputs = {"site": site, "role": "store", "path": str(tmp_path / "store"), "keep": keep}
    FolderKind().create(inputs)
    (tmp_path / "store" / "model").write_text("precious")
    FolderKind().delete(inputs)
    assert (tmp_path / "store" / "model").exists() == stays


def test_a_folder_that_was_there_before_is_never_removed(site: dict[str, str], tmp_path: Path):
    inputs = {"site": site, "role": "store", "path": str(tmp_path / "home"), "keep": False}
    (tmp_path / "home").mkdir()
    FolderKind().create(inputs)
    FolderKind().delete(inputs)
    assert (tmp_path / "home").is_dir()


def test_a_folder_that_vanished_reads_as_gone(site: dict[str, str], tmp_path: Path):
    assert FolderKind().read({"site": site, "path": str(tmp_path / "nowhere")}) is None


def test_the_runtime_folder_is_refused_when_it_is_a_link(tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(Refusal, match="a link or file"):
        private_folder(tmp_path / "link")


def test_an_open_runtime_folder_of_ours_is_closed(tmp_path: Path):
    (tmp_path / "open").mkdir(mode=0o755)
    assert private_folder(tmp_path / "open").stat().st_mode & 0o777 == 0o700


def test_keys_are_made_once_and_only_their_public_halves_are_told(site: dict[str, str]):
    inputs = {"site": site, "keep": True}
    first, second = KeysKind().create(inputs), KeysKind().create(inputs)
    assert first == second
    private = Path(first["signing_key"]).read_bytes()
    assert Path(first["signing_key"]).stat().st_mode & 0o777 == 0o600
    assert Path(first["token_path"]).stat().st_mode & 0o777 == 0o600
    assert private.hex() not in str(first)
    assert Path(first["token_path"]).read_text() not in str(first)
    assert KeysKind().read(inputs | first) == {}
    Path(first["token_path"]).unlink()
    assert KeysKind().read(inputs | first) is None


def test_keys_of_a_stack_from_before_there_was_an_operator_are_completed(site: dict[str, str]):
    inputs = {"site": site, "keep": True}
    made = KeysKind().create(inputs)
    old = inputs | {name: made[name] for name in ("public_keys", "signing_key", "token_path")}
    assert KeysKind().read(old) == {}
    assert KeysKind().drift(old) == {"operator_keys", "operator_key", "labels_token_path"}
    assert KeysKind().update(old, inputs) == made
    assert KeysKind().drift(inputs | made) == set()
    for name in ("operator_key", "labels_token_path"):
        assert Path(made[name]).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("keep", "stays"), [(True, True), (False, False)], ids=["kept", "not-kept"])
def test_a_clock_is_set_once_and_never_back(site: dict[str, str], tmp_path: Path, keep: bool, stays: bool):
    path = tmp_path / "state" / "clock"
    inputs = {"site": site, "path": str(path), "start": "2013-03-01T00:00:00+00:00", "keep": keep}
    ClockKind().create(inputs)
    assert path.read_text() == inputs["start"]
    path.write_text("2013-07-01T12:00:00+00:00")
    ClockKind().create(inputs)
    ClockKind().update(inputs, inputs | {"start": "2013-01-01T00:00:00+00:00"})
    assert path.read_text() == "2013-07-01T12:00:00+00:00"
    assert ClockKind().read(inputs) == {}
    ClockKind().delete(inputs)
    assert path.exists() == stays


def test_keys_that_are_open_to_others_are_one_sentence(site: dict[str, str]):
    inputs = {"site": site, "keep": True}
    Path(KeysKind().create(inputs)["token_path"]).chmod(0o644)
    with pytest.raises(Refusal, match="chmod 600") as refused:
        KeysKind().create(inputs)
    assert "\n" not in str(refused.value)


def test_a_file_that_was_edited_reads_as_edited(site: dict[str, str]):
    inputs = {"site": site, "path": "stack.json", "content": "{}"}
    FileKind().create(inputs)
    assert FileKind().read(inputs) == {}
    path = Path(site["state"]) / "stack.json"
    path.write_text("edited")
    assert FileKind().read(inputs) == {"content": "edited"}
    FileKind().delete(inputs)
    assert FileKind().read(inputs) is None


def test_deleting_the_site_removes_what_may_vanish_and_nothing_else(site: dict[str, str]):
    for folder in ("etc/mlflow", "cache", "logs", "keys"):
        (Path(site["state"]) / folder).mkdir(parents=True)
    Path(site["runtime"]).mkdir(mode=0o700)
    SiteKind().delete({"site": site})
    assert {path.name for path in Path(site["state"]).iterdir()} == {"logs", "keys", "certificates"}
    assert not Path(site["runtime"]).exists()


def _ports(site: dict[str, str], *names: str) -> dict[str, Any]:
    return {"site": site, "names": list(names), "clusters": ["serving"]}


def test_of_a_checkout_that_was_moved_the_files_are_found_where_they_are_now(
    tmp_path: Path, site: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    then, now = (tmp_path / name / ".stackyard" / "test" for name in ("then", "now"))
    (now / "etc" / "controller").mkdir(parents=True)
    (tmp_path / "now" / "infra").mkdir()
    monkeypatch.chdir(tmp_path / "now" / "infra")
    SiteKind().delete({"site": site | {"state": str(then)}})
    assert [path.name for path in now.iterdir()] == ["certificates"]
    (then / "etc").mkdir(parents=True)
    assert Site.of({"site": site | {"state": str(then)}}).state == then


def test_ports_are_below_what_the_system_gives_out_by_itself(site: dict[str, str]):
    chosen = PortsKind().create(_ports(site, "a", "b"))["ports"]
    lowest_of_the_system = int(ports.EPHEMERAL.read_text().split()[0])
    assert all(ports.LOWEST <= port < lowest_of_the_system for port in chosen.values())
    assert len(set(chosen.values())) == 2


def test_a_new_name_leaves_the_other_ports_as_they_were(site: dict[str, str]):
    kind, first = PortsKind(), _ports(site, "a", "b")
    state = first | kind.create(first)
    later = kind.update(state, _ports(site, "b", "c"))["ports"]
    assert later["b"] == state["ports"]["b"]
    assert set(later) == {"b", "c"}
    assert later["c"] not in state["ports"].values()


def test_a_port_that_someone_else_took_is_chosen_anew_and_only_that_one(site: dict[str, str]):
    kind, inputs = PortsKind(), _ports(site, "a", "b")
    state = inputs | kind.create(inputs)
    assert kind.read(state) == {"taken": []}
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", state["ports"]["a"]))
        stranger.listen()
        state |= kind.read(state) or {}
        assert state["taken"] == [state["ports"]["a"]]
        assert kind.drift(state) == {"taken"}
        later = kind.update(state, inputs)["ports"]
    assert later["a"] != state["ports"]["a"]
    assert later["b"] == state["ports"]["b"]


def test_two_stacks_look_for_ports_at_different_places():
    assert ports.free_ports(3, seed="one") != ports.free_ports(3, seed="two")


def test_every_cluster_has_an_address_of_its_own(site: dict[str, str]):
    chosen = PortsKind().create(_ports(site) | {"clusters": ["serving", "training"]})["addresses"]
    assert len(set(chosen.values())) == 2
    assert all(a.startswith("127.0.0.") for a in chosen.values())
    assert "127.0.0.1" not in chosen.values()
