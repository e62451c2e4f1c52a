"""The command line speaks in one sentence or one object, and its exit code says what to do next."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from leased import Lab
from stackyard.evacuation import __main__ as command
from stackyard.evacuation import verbs
from stackyard.evacuation.errors import shown

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an-unknown-field": ({"unknown": 1}, "unknown"),
    "a-store-in-the-workspace": ({"store": "WORKSPACE/store"}, "`store` lies inside the workspace"),
    "a-state-in-the-workspace": ({"state": "WORKSPACE/.state"}, "`state` lies inside the workspace"),
    "a-name-that-is-no-key": ({"cluster": "../x"}, "cluster"),
    "an-extra-that-is-both": ({"extras": {"a": {"file": "a", "freeze": "b"}}}, "either a `file` or a `freeze`"),
    "no-receipt-key": ({"receipt_key": "/nowhere"}, "receipt key"),
    "an-encryption-key-of-another-length": ({"encrypt_key": "RECEIPT"}, "encryption key"),
}


def run(lab: Lab, capsys: pytest.CaptureFixture[str], *arguments: str, **changes: Any) -> tuple[int, dict[str, Any]]:
    path = lab.base / "settings.json"
    path.write_text(json.dumps({**lab.settings.model_dump(mode="json"), **changes}))
    code = command.main([arguments[0], str(path), *arguments[1:], "--json"])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize(("changes", "said"), WRONG.values(), ids=WRONG.keys())
def test_settings_that_make_no_sense_end_with_2_and_a_sentence(
    lab: Lab, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    short = lab.base / "short.key"
    short.write_bytes(b"short")
    short.chmod(0o600)
    placed = {
        name: value.replace("WORKSPACE", str(lab.workspace)).replace("RECEIPT", str(short))
        if isinstance(value, str)
        else value
        for name, value in changes.items()
    }
    code, told = run(lab, capsys, "save", **placed)
    assert (code, told["ok"], told["code"]) == (2, False, "settings")
    assert said in told["reason"]


def test_a_save_says_what_it_made_and_a_second_one_that_nothing_is_new(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    (lab.workspace / "a").write_text("1")
    code, told = run(lab, capsys, "save")
    assert (code, told["made"], told["version"]["number"], told["version"]["files"]) == (0, True, 1, 1)
    code, told = run(lab, capsys, "save")
    assert (code, told["made"]) == (0, False)


def test_status_knows_how_old_what_is_safe_is_and_what_is_newer(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = run(lab, capsys, "status")
    assert (code, told["version"], told["age"], told["late"]) == (1, None, None, True)
    (lab.workspace / "a").write_text("1")
    run(lab, capsys, "save")
    run(lab, capsys, "save")
    (lab.workspace / "b\n").write_text("22")
    code, told = run(lab, capsys, "status")
    assert (code, told["late"], told["unsaved_now"], told["unsaved_bytes"]) == (0, False, 2, 2)
    assert {each["path"] for each in told["losses"]} == {".", "b\\n"}
    assert told["safe_until"] > told["version"]["started"]
    assert told["age"] < 100
    assert told["same_disk"] is True
    code, told = run(lab, capsys, "status", every=1e-9)
    assert told["late"]


def test_a_save_while_the_store_is_away_ends_with_1_and_names_what_only_the_workspace_has(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    run(lab, capsys, "save")
    (lab.workspace / "a").write_text("1")
    lab.store.rename(lab.base / "unmounted")
    code, told = run(lab, capsys, "save")
    assert (code, told["code"], told["unsaved_now"]) == (1, "store_away", 2)
    code, told = run(lab, capsys, "status")
    assert (code, told["store"]) == (1, "away")


def test_a_workspace_that_is_gone_is_said_to_be_gone_and_not_empty(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    (lab.workspace / "a").write_text("1")
    run(lab, capsys, "save")
    lab.workspace.rename(lab.base / "moved")
    code, told = run(lab, capsys, "save")
    assert (code, told["ok"]) == (1, False)
    assert "cannot be read" in told["reason"]
    code, told = run(lab, capsys, "status")
    assert (told["workspace"], told["unsaved_now"], told["version"]["number"]) == ("gone", None, 1)
    assert run(lab, capsys, "evacuate")[0] == 1


def test_a_target_that_holds_something_is_never_restored_over(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    (lab.workspace / "a").write_text("1")
    run(lab, capsys, "save")
    target = lab.base / "target"
    target.mkdir()
    (target / "mine").write_text("precious")
    code, told = run(lab, capsys, "restore", "latest", str(target))
    assert (code, [path.name for path in target.iterdir()]) == (1, ["mine"])
    assert "not an empty folder" in told["reason"]
    (target / "mine").unlink()
    assert run(lab, capsys, "restore", "v1", str(target))[0] == 0
    assert (target / "a").read_text() == "1"


@pytest.mark.parametrize("what", ["7", "receipts/bench/i-1-1-0001.json", "latest"])
def test_what_is_not_there_cannot_be_restored(lab: Lab, capsys: pytest.CaptureFixture[str], what: str) -> None:
    code, told = run(lab, capsys, "restore", what, str(lab.base / "back"))
    assert (code, told["ok"]) == (1, False)
    assert not (lab.base / "back").exists()


def test_damage_is_restored_around_and_named(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    (lab.workspace / "a").write_bytes(b"1" * 10)
    (lab.workspace / "b").write_bytes(b"2" * 10)
    run(lab, capsys, "save")
    pack = next(path for path in lab.packs() if b"2222222222" in path.read_bytes())
    pack.write_bytes(pack.read_bytes().replace(b"2222222222", b"2222322222"))
    code, told = run(lab, capsys, "restore", "latest", str(lab.base / "back"))
    assert (code, [each["path"] for each in told["losses"]]) == (1, ["b"])
    assert (lab.base / "back" / "a").read_bytes() == b"1" * 10
    assert not (lab.base / "back" / "b").exists()


def test_sentences_are_for_people(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    (lab.workspace / "a").write_text("1")
    path = lab.base / "settings.json"
    path.write_text(lab.settings.model_dump_json())
    said = {}
    for verb, *rest in (
        ["save"],
        ["status"],
        ["verify"],
        ["receipt"],
        ["suspend"],
        ["evacuate"],
        ["receipt"],
        ["thaw"],
    ):
        code = command.main([verb, str(path), *rest])
        out = capsys.readouterr()
        said[verb, code] = out.out + out.err
    assert "version 1: 1 files read" in said["save", 0]
    assert "0 entries are newer" in said["status", 0]
    assert "nothing damaged" in said["verify", 0]
    assert "no receipt" in said["receipt", 1]
    assert "version 1 holds everything; 0 processes stand still" in said["suspend", 0]
    assert "sealed by receipts/bench/i-1-1-0001.json" in said["evacuate", 0]
    assert "it may go" in said["receipt", 0]
    assert "sealed by" in said["thaw", 1]
    assert not any("Traceback" in text for text in said.values())


@pytest.mark.slow
def test_a_watching_saver_saves_until_it_is_asked_to_end(lab: Lab) -> None:
    """Slow: a process. Shows that SIGTERM ends it after a whole save, and that it saves what came meanwhile."""
    path = lab.base / "settings.json"
    path.write_text(lab.settings.model_dump_json())
    watching = subprocess.Popen(
        [sys.executable, "-m", "stackyard.evacuation", "watch", str(path), "--every", "0.05", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["version"]["number"] == 1
    (lab.workspace / "a").write_text("1")
    while (told := json.loads(watching.stdout.readline()))["version"]["number"] == 1:
        assert told["ok"]
    watching.send_signal(signal.SIGTERM)
    rest = watching.stdout.read().splitlines()
    assert watching.wait() == 0
    assert json.loads(rest[-1])["ok"]


def test_a_clock_that_is_set_back_delays_no_save(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    class SetBack(dt.datetime):
        looks = 0

        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            cls.looks += 1
            return dt.datetime(2027, 2, 1, tzinfo=tz) - dt.timedelta(days=cls.looks)

    waits = list[float]()
    monkeypatch.setattr(verbs, "dt", SimpleNamespace(datetime=SetBack, UTC=dt.UTC))
    monkeypatch.setattr(verbs.signal, "signal", lambda *_: None)
    monkeypatch.setattr(verbs.os, "nice", lambda _: None)
    monkeypatch.setattr(verbs, "save", lambda *_: {"ok": True, "made": False, "version": {"number": 1}})
    monkeypatch.setattr(verbs.threading.Event, "wait", lambda _, seconds: waits.append(seconds))
    verbs.watch(lab.settings, argparse.Namespace(every=300.0, times=3, json=True))
    assert len(waits) == 2 and all(290 < each <= 300 for each in waits)


@pytest.mark.parametrize(
    ("name", "want"),
    [(b"a\nb", "a\\nb"), (b"\xff", "\\xff"), ("ä".encode(), "ä"), (b"", "."), (b"\x1b[31m", "\\x1b[31m")],
    ids=["line-break", "no-text", "text", "workspace", "terminal-codes"],
)
def test_names_are_shown_without_doing_anything_to_the_terminal(name: bytes, want: str) -> None:
    assert shown(name) == want


def test_the_settings_name_every_problem_at_once(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    code = command.main(["save", str(Path(lab.base, "nothing.json")), "--json"])
    assert code == 2
    assert "cannot be read" in json.loads(capsys.readouterr().out)["reason"]
    code, told = run(lab, capsys, "save", generation=-1, every=0)
    assert code == 2
    assert "generation" in told["reason"]
    assert "every" in told["reason"]
