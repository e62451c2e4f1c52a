"""Which engine is chosen, without a network: every other way is a fake program or a fake release."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import tarfile
from pathlib import Path

import pytest

from machine import engine, places, release, say, source


def program(file: Path, body: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return file


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty cache and an empty PATH; building leaves a program that says so."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(release, "_reachable", lambda address: False)
    monkeypatch.setattr(source, "build", lambda: program(source.target() / "pulumi", "echo built"))
    return tmp_path


def on_path(machine: Path, monkeypatch: pytest.MonkeyPatch, version: str, *, host: bool) -> Path:
    folder = machine / "their bin"
    program(folder / "pulumi", f"echo {version}")
    if host:
        program(folder / "pulumi-language-python", "true")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


@pytest.mark.parametrize(
    ("version", "host", "taken", "stand_in"),
    [
        pytest.param("v" + engine.OLDEST, True, True, False, id="oldest-with-its-host"),
        pytest.param("v3.999.0", True, True, False, id="newer"),
        pytest.param("v" + engine.OLDEST, False, True, True, id="without-its-host"),
        pytest.param("v3.100.0", True, False, False, id="too-old"),
        pytest.param("broken", True, False, False, id="unreadable"),
    ],
)
def test_the_users_own_engine_is_taken_when_it_is_new_enough(
    machine: Path, monkeypatch: pytest.MonkeyPatch, version: str, host: bool, taken: bool, stand_in: bool
) -> None:
    folder = on_path(machine, monkeypatch, version, host=host)
    chosen = engine.choose()
    assert (chosen.pulumi == str(folder / "pulumi")) is taken
    assert (chosen.host == str(places.TOOLS / "host" / "pulumi-language-python")) is stand_in
    assert chosen.there()


def test_without_one_it_is_built_once_and_found_again(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = engine.choose()
    monkeypatch.setattr(source, "build", lambda: pytest.fail("built a second time"))
    second = engine.choose()
    assert first.pulumi == second.pulumi == str(source.target() / "pulumi")


def test_what_we_put_on_path_ourselves_is_not_the_users_own(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = engine.fingerprint()
    chosen = engine.choose()
    monkeypatch.setenv("PATH", os.pathsep.join([*chosen.folders(), "/usr/bin", "/bin"]))
    assert engine.fingerprint() == before


def test_an_engine_installed_later_is_noticed(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = engine.fingerprint()
    on_path(machine, monkeypatch, "v3.999.0", host=True)
    assert engine.fingerprint() != before


def archive(*names: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"true"))
        link = tarfile.TarInfo("pulumi/pulumi-link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return data.getvalue()


def offer(monkeypatch: pytest.MonkeyPatch, data: bytes) -> release.Pin:
    monkeypatch.setattr(release, "_reachable", lambda address: True)
    monkeypatch.setattr(release, "_download", lambda address, to: to.write_bytes(data))
    pin = release.Pin("3.300.0", engine.architecture(), hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(release, "pins", lambda file: [pin])
    return pin


def test_a_pinned_release_that_can_be_had_is_taken_with_its_own_host(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, archive("pulumi/pulumi", "pulumi/pulumi-language-python", "pulumi/../../pulumi-evil", "README"))
    chosen = engine.choose()
    folder = Path(chosen.pulumi).parent
    assert chosen.host == str(folder / "pulumi-language-python")
    assert {file.name for file in folder.iterdir()} == {"pulumi", "pulumi-language-python", "pulumi-evil"}
    assert not list(machine.glob("*evil*"))


@pytest.mark.parametrize("way", ["other-digest", "broken-off", "not-reached", "other-architecture"])
def test_a_release_that_cannot_be_had_whole_leaves_nothing_and_the_engine_is_built(
    machine: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    pin = offer(monkeypatch, archive("pulumi/pulumi"))

    def break_off(address: str, to: Path) -> None:
        to.write_bytes(b"half")
        raise OSError("connection lost")

    if way == "other-digest":
        monkeypatch.setattr(release, "pins", lambda file: [pin._replace(sha256="0" * 64)])
    elif way == "broken-off":
        monkeypatch.setattr(release, "_download", break_off)
    elif way == "not-reached":
        monkeypatch.setattr(release, "_reachable", lambda address: False)
    else:
        monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert engine.choose().pulumi == str(source.target() / "pulumi")
    assert not list((machine / "cache" / "stackyard").glob("pulumi/*"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("# only words\n\n", [], id="none"),
        pytest.param(f"3.260.0 x64 {'a' * 64} # note\n", [("3.260.0", "x64", "a" * 64)], id="one"),
    ],
)
def test_pins_are_one_a_line(tmp_path: Path, text: str, expected: list) -> None:
    file = tmp_path / "pulumi.lock"
    file.write_text(text)
    assert release.pins(file) == expected


def test_a_broken_pin_is_told_and_not_ignored(tmp_path: Path) -> None:
    file = tmp_path / "pulumi.lock"
    file.write_text("3.260.0 x64 abc\n")
    with pytest.raises(say.Stop):
        release.pins(file)


def test_the_pins_and_the_source_of_this_checkout_are_at_least_the_oldest_tested() -> None:
    release.pins(places.TOOLS / "pulumi.lock")
    assert engine.versions.at_least(source.version(), engine.OLDEST)


def test_a_killed_make_leaves_no_half_made_target(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with pytest.raises(FileNotFoundError), places.made_whole(target) as part:
        (part / "no folder" / "half").touch()
    leftover = tmp_path / ".made-killed"
    (leftover / "read-only").mkdir(parents=True)
    (leftover / "read-only" / "file").touch()
    (leftover / "read-only").chmod(0o500)
    with places.made_whole(target) as part:
        (part / "whole").touch()
    assert [file.name for file in tmp_path.iterdir()] == ["made"]
    assert [file.name for file in target.iterdir()] == ["whole"]
