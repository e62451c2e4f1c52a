"""Whether anybody uses a cluster: each signal says what it sees, and what cannot be asked is never called idle."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from guarded import wait_until
from lent import SLEEPS, Lent
from stackyard.evacuation import fetching
from stackyard.leasing import gpus, processes, signals, verbs
from stackyard.leasing.evidence import Evidence, fold
from stackyard.leasing.facts import Signal
from stackyard.leasing.folder import Folder
from stackyard.leasing.processes import Counts, Mine, judge

NOON = dt.datetime(2027, 2, 1, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
TOKENS = {"/api/jobs/": "Bearer r4y", "/api/kernels": "token n0te"}
SPINS = "import time\nprint(0, flush=True)\nend = time.monotonic() + 600\nwhile time.monotonic() < end: pass"


class Dashboards(ThreadingHTTPServer):
    """Ray's dashboard and Jupyter, as far as they are asked; who has no token is shown the door."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, Any] = {"/api/jobs/": [], "/api/kernels": []}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Dashboards  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        allowed = self.headers["Authorization"] == TOKENS.get(self.path)
        self.send_response(200 if allowed and self.path in self.server.answers else 401)
        self.end_headers()
        if allowed:
            self.wfile.write(json.dumps(self.server.answers[self.path]).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def boards(bench: Lent, tmp_path: Path) -> Iterator[Dashboards]:
    server = Dashboards()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, token in (("ray", "r4y"), ("notebook", "n0te\n")):
        (tmp_path / name).write_text(token)
    told = {"dashboard": server.url, "notebook": server.url}
    tokens = {"ray_token": str(tmp_path / "ray"), "notebook_token": str(tmp_path / "notebook")}
    bench.write("lease.json", {**bench.read("lease.json"), **told, **tokens})
    yield server
    server.shutdown()
    server.server_close()


def job(status: str, kind: str = "SUBMISSION", end: dt.datetime | None = None) -> dict[str, Any]:
    times = {
        "start_time": int(NOON.timestamp() * 1000),
        "end_time": None if end is None else int(end.timestamp() * 1000),
    }
    return {"type": kind, "status": status, "submission_id": "raysubmit_1", "job_id": None, **times}


def kernel(state: str, last: str = "2027-02-01T12:00:00.000000Z") -> dict[str, Any]:
    return {"id": "k", "name": "python3", "execution_state": state, "last_activity": last, "connections": 1}


JOBS: dict[str, tuple[Any, bool, bool, dt.datetime | None]] = {
    "none": ([], True, False, None),
    "running": ([job("SUCCEEDED", end=NOON), job("RUNNING")], True, True, None),
    "waiting": ([job("PENDING")], True, True, None),
    "of-a-kind-nobody-knows": ([job("THINKING")], True, True, None),
    "ended": ([job("SUCCEEDED", end=NOON + HOUR), job("FAILED", end=NOON)], True, False, NOON + HOUR),
    "ended-without-a-time": ([job("STOPPED")], True, False, NOON),
    "a-driver-left-connected": ([job("RUNNING", "DRIVER")], True, False, NOON),
    "no-list": ({"error": "?"}, False, False, None),
    "a-list-of-something": (["?"], False, False, None),
}


@pytest.mark.parametrize(("answer", "known", "busy", "last"), JOBS.values(), ids=JOBS.keys())
def test_jobs_are_use_while_they_run(
    bench: Lent, boards: Dashboards, answer: Any, known: bool, busy: bool, last: dt.datetime | None
) -> None:
    boards.answers["/api/jobs/"] = answer
    lease = Folder(bench.folder).lease()
    assert lease is not None
    found = signals.jobs(lease)
    assert (found.known, found.busy, found.last) == (known, busy, last)
    assert found.because


KERNELS: dict[str, tuple[Any, bool, bool, dt.datetime | None]] = {
    "none": ([], True, False, None),
    "busy": ([kernel("idle"), kernel("busy")], True, True, None),
    "starting": ([kernel("starting")], True, True, None),
    "resting": ([kernel("idle"), kernel("idle", "2027-02-01T13:00:00Z")], True, False, NOON + HOUR),
    "no-list": ({"message": "?"}, False, False, None),
}


@pytest.mark.parametrize(("answer", "known", "busy", "last"), KERNELS.values(), ids=KERNELS.keys())
def test_kernels_are_use_while_they_compute(
    bench: Lent, boards: Dashboards, answer: Any, known: bool, busy: bool, last: dt.datetime | None
) -> None:
    boards.answers["/api/kernels"] = answer
    lease = Folder(bench.folder).lease()
    assert lease is not None
    found = signals.kernels(lease)
    assert (found.known, found.busy, found.last) == (known, busy, last)


@pytest.mark.parametrize("trouble", ["no-token", "another-token", "nobody-listens", "no-address"])
def test_who_does_not_answer_leaves_use_unknown_and_no_token_in_what_is_told(
    bench: Lent, boards: Dashboards, tmp_path: Path, trouble: str
) -> None:
    match trouble:
        case "no-token":
            (tmp_path / "ray").unlink()
        case "another-token":
            (tmp_path / "ray").write_text("an0ther")
        case "nobody-listens":
            bench.lease(dashboard="http://127.0.0.1:9")
        case _:
            bench.lease(dashboard="http://[hidden")
    lease = Folder(bench.folder).lease()
    assert lease is not None
    found = signals.jobs(lease)
    assert (found.known, found.busy) == (False, False)
    assert "counts as use" in found.because
    assert not any(token in found.because for token in ("r4y", "an0ther", "hidden"))


DRIPS: dict[str, tuple[bytes, bytes]] = {
    "its-head": (b"HTTP/1.1 200 OK\r\nX-More: ", b"."),
    "its-body": (b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n[", b" "),
    "a-body-without-a-length": (b"HTTP/1.0 200 OK\r\n\r\n[]", b" "),
    "nothing": (b"", b""),
}


@pytest.mark.parametrize(("begins", "drips"), DRIPS.values(), ids=DRIPS.keys())
def test_a_server_that_never_ends_its_answer_is_waited_for_no_longer_than_said(
    bench: Lent, monkeypatch: pytest.MonkeyPatch, begins: bytes, drips: bytes
) -> None:
    ended = threading.Event()

    def serve(line: socket.socket) -> None:
        with contextlib.suppress(OSError), line.accept()[0] as taken:
            taken.sendall(begins)
            while not ended.wait(0.05):
                taken.sendall(drips)

    with socket.create_server(("127.0.0.1", 0)) as line:
        threading.Thread(target=serve, args=(line,), daemon=True).start()
        bench.lease(dashboard=f"http://127.0.0.1:{line.getsockname()[1]}")
        monkeypatch.setattr(signals, "TIMEOUT", 0.3)
        lease, began = Folder(bench.folder).lease(), time.monotonic()
        assert lease is not None
        found = signals.jobs(lease)
        ended.set()
    assert not found.known and "TimeoutError" in found.because
    assert time.monotonic() - began < 5


def test_an_answer_without_an_end_is_not_read(bench: Lent, boards: Dashboards, monkeypatch: pytest.MonkeyPatch) -> None:
    boards.answers["/api/jobs/"] = [job("SUCCEEDED")] * 10
    monkeypatch.setattr(fetching, "MOST", 100)
    lease = Folder(bench.folder).lease()
    assert lease is not None and not signals.jobs(lease).known


def look(bench: Lent) -> dict[str, Signal]:
    assert verbs.reap([bench.folder])[0] == 0
    return {each.name: each for each in Folder(bench.folder).signals()}


def looked_before(bench: Lent, seconds: float) -> None:
    """As if the last look had been so many seconds earlier, and nothing had been used since."""
    kept = bench.read("idle.json")
    kept["counts"]["uptime"] -= seconds
    back = dt.timedelta(seconds=seconds)
    for each in kept["signals"]:
        if each["used"] is not None:
            each["used"] = (dt.datetime.fromisoformat(each["used"]) - back).isoformat()
    bench.write("idle.json", kept)


def test_a_sleeping_shell_is_idle_and_says_so_and_a_person_wakes_it(bench: Lent, boards: Dashboards) -> None:
    bench.lease(idle=60.0, notebook=None)
    sleeper = bench.start(SLEEPS)
    assert look(bench)["processes"].busy  # nobody looked before
    looked_before(bench, 200.0)
    answer = verbs.reap([bench.folder])[1]["clusters"][0]
    assert (answer["did"], bench.read("suspended.json")["reason"]) == (["suspended"], "idle")
    assert f"({sleeper.pid})" in bench.read("suspended.json")["because"]
    assert "sleeps" in bench.read("suspended.json")["because"]
    assert verbs.reap([bench.folder])[1]["clusters"][0]["did"] == []  # only a person resumes it
    assert verbs.resume(bench.folder, "ada")[0] == 0
    assert verbs.reap([bench.folder])[1]["clusters"][0]["state"] == "open"


@pytest.mark.parametrize("tagged", [True, False], ids=["by-its-tag", "by-its-folder"])
def test_a_cluster_that_computes_is_never_idle(bench: Lent, boards: Dashboards, tagged: bool) -> None:
    bench.lease(idle=0.001, notebook=None)
    bench.start(SLEEPS)
    spinner = psutil.Process(bench.start(SPINS, tagged=tagged).pid)
    look(bench)
    before = spinner.cpu_times().user
    wait_until(lambda: spinner.cpu_times().user > before + 0.5)
    assert look(bench)["processes"].busy
    assert bench.acts() == []


def test_a_cluster_whose_ray_does_not_answer_is_never_idle(bench: Lent, boards: Dashboards) -> None:
    bench.lease(idle=0.001, notebook=None, dashboard="http://127.0.0.1:9")
    bench.start(SLEEPS)
    look(bench)
    looked_before(bench, 200.0)
    assert not look(bench)["jobs"].known
    assert bench.acts() == []


def test_the_clusters_own_daemons_are_no_use(bench: Lent) -> None:
    process = bench.start(SPINS)
    settings, own = bench.settings, [list(map(str, process.args))]  # type: ignore[call-overload]
    assert [each.pid for each in processes.mine(settings, [])] == [process.pid]
    assert processes.mine(settings, own) == []


def mine(seconds: float, moved: int = 0, pid: int = 7) -> Mine:
    return Mine(pid, 1, "/usr/bin/python train.py", seconds, moved)


JUDGED = {
    "sleeping": ([mine(9.0)], 30.0, [mine(9.0)], False, "only python train.py (7) sleeps"),
    "nobody": ([], 30.0, [], False, "no process"),
    "a-background-thread": ([mine(9.0)], 30.0, [mine(9.2)], False, "sleeps"),
    "computing": ([mine(9.0)], 30.0, [mine(9.4)], True, "used 0.4 s of a processor in 30 s"),
    "downloading": ([mine(9.0)], 30.0, [mine(9.0, 2 << 20)], True, "python train.py (7)"),
    "new-and-computing": ([], 30.0, [mine(1.0)], True, "used 1.0 s"),
    "nobody-looked-for-long": ([mine(9.0)], 301.0, [mine(9.0)], True, "nobody looked"),
    "looked-in-the-future": ([mine(9.0)], -1.0, [mine(9.0)], True, "nobody looked"),
    "two-of-which-one-computes": ([mine(9.0)], 30.0, [mine(9.0), mine(2.0, pid=8)], True, "(8)"),
}


@pytest.mark.parametrize(("before", "span", "now", "busy", "said"), JUDGED.values(), ids=JUDGED.keys())
def test_a_process_is_in_use_when_it_did_something_since_the_last_look(
    before: list[Mine], span: float, now: list[Mine], busy: bool, said: str
) -> None:
    kept = Counts.read(json.loads(json.dumps(processes.count(before, "b", 1000.0).kept())))
    found = judge(kept, processes.count(now, "b", 1000.0 + span), now, gap=300.0)
    assert (found.busy, said in found.because) == (busy, True), found.because
    assert judge(kept, processes.count(now, "another boot", 1030.0), now, gap=300.0).busy
    assert judge(Counts.read({"of": 1}), processes.count(now, "b", 1030.0), now, gap=300.0).busy


GPUS: dict[str, tuple[str, str, tuple[bool, bool]]] = {
    "resting": ("GPU-1, 0", "GPU-1, 7", (True, False)),
    "busy-for-it": ("GPU-1, 0\nGPU-2, 35", "GPU-2, 7\nGPU-2, 8", (True, True)),
    "busy-for-somebody-else": ("GPU-1, 35", "GPU-1, 8", (True, False)),
    "busy-for-nobody-knows-whom": ("GPU-1, 35", "", (True, True)),
    "busy-for-a-number-of-another-container": ("GPU-1, 35", "GPU-1, 999", (True, True)),
    "does-not-say": ("GPU-1, [N/A]", "", (True, True)),
    "no-card": ("", "", (True, False)),
    "nonsense": ("?", "?", (False, False)),
}


@pytest.mark.parametrize(("shares", "apps", "want"), GPUS.values(), ids=GPUS.keys())
def test_a_gpu_is_use_when_it_computes_for_the_cluster_or_nobody_says_for_whom(
    shares: str, apps: str, want: tuple[bool, bool]
) -> None:
    found = gpus.evidence({7}, lambda query: shares if "utilization" in query else apps, lives=lambda pid: pid < 100)
    assert (found.known, found.busy) == want


def test_a_gpu_that_cannot_be_asked_leaves_use_unknown() -> None:
    def fails(_query: str) -> str:
        raise subprocess.TimeoutExpired("nvidia-smi", 10)

    assert not gpus.evidence({7}, fails).known


EARLIER = Signal(name="s", known=True, used=NOON - HOUR)
FOLDED: dict[str, tuple[Signal | None, Evidence, bool, dt.datetime | None]] = {
    "never-used": (None, Evidence("s", ""), False, None),
    "busy": (EARLIER, Evidence("s", "", busy=True), False, NOON),
    "used-before": (EARLIER, Evidence("s", ""), False, NOON - HOUR),
    "used-since": (EARLIER, Evidence("s", "", last=NOON - HOUR / 2), False, NOON - HOUR / 2),
    "used-earlier-than-known": (EARLIER, Evidence("s", "", last=NOON - 2 * HOUR), False, NOON - HOUR),
    "used-in-the-future": (EARLIER, Evidence("s", "", last=NOON + HOUR), False, NOON),
    "unknown": (EARLIER, Evidence("s", "", known=False), False, NOON - HOUR),
    "used-since-by-another-clock": (EARLIER, Evidence("s", "", last=NOON + 901 * HOUR), True, NOON),
    "known-by-another-clock": (EARLIER, Evidence("s", "", last=NOON + 899 * HOUR), True, NOON - HOUR),
}


@pytest.mark.parametrize(("before", "found", "virtual", "used"), FOLDED.values(), ids=FOLDED.keys())
def test_use_is_kept_and_never_dated_in_the_future(
    before: Signal | None, found: Evidence, virtual: bool, used: dt.datetime | None
) -> None:
    folded = fold(before, found, NOON, looked=NOON + 900 * HOUR, virtual=virtual)
    assert (folded.used, folded.known, folded.busy) == (used, found.known, found.busy)
