"""What a killed Pulumi leaves behind is cleared only when it is certain that nobody works any more."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest

from machine import backend

HERE = socket.gethostname()
LONG_AGO = "2001-02-03T04:05:06.123456789+01:00"


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()


def write_lock(folder: Path, **changes: object) -> Path:
    file = folder / ".pulumi" / "locks" / "organization" / "stackyard" / "local" / "0f.json"
    file.parent.mkdir(parents=True)
    content = {"pid": os.getpid(), "username": "ada", "hostname": HERE, "timestamp": now()} | changes
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize(
    ("changes", "cleared"),
    [
        pytest.param(lambda: {"pid": dead_pid()}, True, id="its-process-is-gone"),
        pytest.param(lambda: {"timestamp": LONG_AGO}, True, id="its-pid-was-given-to-a-younger-process"),
        pytest.param(dict, False, id="its-process-works"),
        pytest.param(lambda: {"pid": dead_pid(), "hostname": "elsewhere"}, False, id="of-another-machine"),
        pytest.param(lambda: {"timestamp": "yesterday"}, False, id="living-pid-and-unreadable-time"),
        pytest.param(lambda: {"pid": 0}, False, id="no-pid"),
    ],
)
def test_a_lock_is_cleared_exactly_when_its_process_is_certainly_gone(
    tmp_path: Path, changes: Callable[[], dict], cleared: bool
) -> None:
    file = write_lock(tmp_path, **changes())
    alive = backend.clear_stale_locks(tmp_path, "local")
    assert file.exists() is not cleared
    assert [holder.user for holder in alive] == ([] if cleared else ["ada"])


def test_a_living_pulumi_keeps_its_lock_though_the_clock_was_set(tmp_path: Path) -> None:
    sleeping = shutil.copy(shutil.which("sleep") or "", tmp_path / "pulumi")
    process = subprocess.Popen([sleeping, "60"])
    try:
        file = write_lock(tmp_path, pid=process.pid, timestamp=LONG_AGO)
        assert len(backend.clear_stale_locks(tmp_path, "local")) == 1
        assert file.exists()
    finally:
        process.kill()
        process.wait()


def test_a_lock_that_cannot_be_read_is_left_to_pulumi(tmp_path: Path) -> None:
    file = write_lock(tmp_path)
    file.write_text('{"pid":')
    assert backend.clear_stale_locks(tmp_path, "local") == []
    assert file.exists()


def test_a_stack_without_locks_has_none_to_clear(tmp_path: Path) -> None:
    assert backend.clear_stale_locks(tmp_path, "local") == []


@pytest.mark.parametrize(
    ("latest", "expected"),
    [
        pytest.param(
            {"pending_operations": [{"type": "creating", "resource": {"urn": "urn:a"}}]}, ["urn:a"], id="creating"
        ),
        pytest.param({"pending_operations": [{"type": "deleting", "resource": {"urn": "urn:a"}}]}, [], id="deleting"),
        pytest.param({"resources": []}, [], id="none"),
        pytest.param(None, [], id="new-stack"),
    ],
)
def test_pending_creates_are_those_that_the_state_names(tmp_path: Path, latest: object, expected: list[str]) -> None:
    file = tmp_path / ".pulumi" / "stacks" / "stackyard" / "local.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"version": 3, "checkpoint": {"stack": "s", "latest": latest}}))
    assert backend.pending(tmp_path, "local") == expected


def test_a_state_that_cannot_be_read_has_no_pending_creates(tmp_path: Path) -> None:
    file = tmp_path / ".pulumi" / "stacks" / "stackyard" / "local.json"
    file.parent.mkdir(parents=True)
    file.write_text("{")
    assert backend.pending(tmp_path, "local") == []


@pytest.mark.parametrize("name", ["plain", "with space", "ümlaut", "per%20cent", "hash#and?query"])
def test_a_file_address_leads_back_to_its_folder(tmp_path: Path, name: str) -> None:
    assert backend.folder("file://" + urllib.parse.quote(str(tmp_path / name))) == tmp_path / name


@pytest.mark.parametrize("url", ["s3://bucket", "https://api.example.com", "azblob://x", ""])
def test_the_locks_of_another_kind_of_backend_are_not_ours_to_judge(url: str) -> None:
    assert backend.folder(url) is None


@pytest.mark.parametrize(
    ("name", "content", "stays"),
    [
        pytest.param("stacks/stackyard/local.json", "{}", True, id="state"),
        pytest.param("stacks/stackyard/local.json.attrs", '{"md5": ""}', True, id="description"),
        pytest.param("stacks/stackyard/local.json.attrs", "", False, id="description-cut-off"),
        pytest.param("stacks/stackyard/local.json.bak.attrs", '{"md', False, id="description-of-the-copy-cut-off"),
        pytest.param("stacks/stackyard/local.json.18ea14c1.tmp", "{}", False, id="state-never-renamed"),
        pytest.param("locks/organization/stackyard/local/0f.json.18ea.tmp", "{}", False, id="lock-never-renamed"),
        pytest.param("history/stackyard/local/local-1.history.json.attrs", "", False, id="description-in-the-history"),
        pytest.param("stacks/stackyard/other.json.attrs", "", True, id="another-stack"),
    ],
)
def test_pieces_of_files_that_a_kill_left_are_removed_and_whole_files_stay(
    tmp_path: Path, name: str, content: str, stays: bool
) -> None:
    file = tmp_path / ".pulumi" / name
    file.parent.mkdir(parents=True)
    file.write_text(content)
    backend.mend(tmp_path, "local")
    assert file.exists() is stays
