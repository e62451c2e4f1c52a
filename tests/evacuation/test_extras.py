"""What lies beside a workspace: folders that end before it does, and the jobs of heads that died."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from leased import Lab
from stackyard.evacuation import jobs

RAN = {"submission_id": "a", "status": "SUCCEEDED", "start_time": 1, "entrypoint": "python train.py"}
RUNS = {"job_id": "01000000", "status": "RUNNING", "start_time": 2, "runtime_env": {"env_vars": {"KEY": "hunter2"}}}
AGAIN = {"job_id": "01000000", "status": "RUNNING", "start_time": 3}


class Head:
    """A dashboard that answers whoever has the token."""

    def __init__(self) -> None:
        self.jobs: list[dict[str, Any]] = []
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                allowed = self.path == "/api/jobs/" and self.headers["Authorization"] == "Bearer t0ken"
                self.send_response(200 if allowed else 403)
                self.end_headers()
                self.wfile.write(json.dumps(told.jobs).encode() if allowed else b"{}")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def die(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def head() -> Iterator[Head]:
    made = Head()
    yield made
    made.die()


def test_jobs_of_a_cluster_outlive_its_head(lab: Lab, head: Head) -> None:
    (lab.base / "token").write_text("t0ken\n")
    lab = lab.with_(extras={"ray-jobs": {"jobs": head.url, "token": str(lab.base / "token")}})
    head.jobs = [RAN, RUNS]
    first = lab.save()
    assert first.left_out == []
    assert not lab.save().made, "a list that did not change is no new version"
    assert [each["status"] for each in _jobs(lab, "one")] == ["SUCCEEDED", "RUNNING"]
    assert b"hunter2" not in (lab.base / "one" / "ray-jobs").read_bytes(), "environments hold passwords"

    head.jobs = [AGAIN]  # another head, which counts from 1 again
    lab.save()
    assert [(each["start_time"], each["status"]) for each in _jobs(lab, "two")] == [
        (1, "SUCCEEDED"), (2, "UNKNOWN"), (3, "RUNNING"),
    ]  # fmt: skip

    head.die()
    (lab.workspace / "new").write_text("work")
    assert lab.save().left_out == [], "it answered a moment ago"
    long_ago = 1_000_000_000
    os.utime(lab.settings.state / "extras" / "ray-jobs", (long_ago, long_ago))
    assert [each.path for each in lab.save().left_out] == [b"extra ray-jobs"]
    assert len(_jobs(lab, "three")) == 3
    assert lab.save().unsaved == [], "a dead head is no error"


def test_a_head_that_never_ends_its_answer_holds_up_no_save(monkeypatch: pytest.MonkeyPatch) -> None:
    def serve() -> None:
        with contextlib.suppress(OSError), line.accept()[0] as taken:
            taken.sendall(b"HTTP/1.0 200 OK\r\n\r\n[]")
            while not ended.wait(0.05):
                taken.sendall(b" ")

    monkeypatch.setattr(jobs, "_PATIENCE", 0.2)
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as line:
        threading.Thread(target=serve, daemon=True).start()
        assert jobs.ask(f"http://127.0.0.1:{line.getsockname()[1]}", None) is None
        ended.set()


def test_nobody_asks_a_head_that_stands_still(lab: Lab, head: Head) -> None:
    (lab.base / "token").write_text("t0ken")
    lab = lab.with_(extras={"ray-jobs": {"jobs": head.url, "token": str(lab.base / "token")}})
    lab.settings.state.mkdir(parents=True, exist_ok=True)
    (lab.settings.state / "frozen.json").write_text("{}")
    head.jobs = [RAN]
    saved = lab.save()
    assert (_jobs(lab, "back"), saved.left_out) == ([], [])


def test_logs_of_a_folder_that_is_gone_are_saved_on(lab: Lab) -> None:
    logs = lab.base / "ray"
    kept = _write(logs / "session_1/logs/job-driver-a.log", "epoch 1\n", at=1)
    _write(logs / "session_1/logs/raylet.out", "noise\n", at=1)
    _write(logs / "session_1/logs/worker-1.out", "", at=1)
    (logs / "session_latest").symlink_to("session_1")
    extra = {"folder": str(logs), "names": ["*/job-driver-*.log", "*/worker-*.out"], "keep": True}
    lab = lab.with_(extras={"ray-logs": extra})
    lab.save()
    assert not lab.save().made
    with kept.open("a") as file:
        file.write("epoch 2\n")
    assert lab.save().made
    os.rename(logs, lab.base / "gone")
    _write(logs / "session_2/logs/job-driver-b.log", "another\n", at=2)
    lab.save()
    outcome = lab.command("restore", "latest", str(lab.base / "back"), "--extras", str(lab.base / "beside"))
    assert outcome.code == 0
    assert _tree(lab.base / "beside") == {
        "ray-logs/session_1/logs/job-driver-a.log": "epoch 1\nepoch 2\n",
        "ray-logs/session_2/logs/job-driver-b.log": "another\n",
    }


def test_the_newest_logs_are_saved_as_far_as_they_fit_and_the_rest_is_told(lab: Lab) -> None:
    for day in (1, 2, 3):
        _write(lab.base / f"ray/{day}.log", f"{day}" * 10, at=day)
    lab = lab.with_(extras={"logs": {"folder": str(lab.base / "ray"), "most": 25, "keep": True}})
    assert [each.rule for each in lab.save().left_out] == ["the newest 25 bytes are saved; 1 older files are not"]
    lab.command("restore", "latest", str(lab.base / "back"), "--extras", str(lab.base / "beside"))
    assert sorted(_tree(lab.base / "beside")) == ["logs/2.log", "logs/3.log"]
    _write(lab.base / "ray/4.log", "4" * 10, at=4)
    lab.save()
    assert sorted(path.name for path in (lab.settings.state / "extras/logs").iterdir()) == ["3.log", "4.log"]


def test_a_folder_that_is_not_there_is_no_error(lab: Lab) -> None:
    saved = lab.with_(extras={"logs": {"folder": str(lab.base / "nowhere")}}).save()
    assert (saved.left_out, saved.unsaved) == ([], [])


def _jobs(lab: Lab, name: str) -> list[dict[str, Any]]:
    lab.command("restore", "latest", str(lab.base / f"{name}-back"), "--extras", str(lab.base / name))
    return json.loads((lab.base / name / "ray-jobs").read_text())


def _write(path: Path, text: str, *, at: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at, at))
    return path


def _tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
