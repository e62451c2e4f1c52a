"""A checkout with a past, and a service and a controller that only pretend: for replays that take seconds."""

from __future__ import annotations

import collections
import datetime as dt
import http.server
import io
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import xgboost
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stackyard.clock import FileClock, clock_of
from stackyard.control.journal import Journal
from stackyard.data import code, features, sources
from stackyard.data.features import FeatureSchema
from stackyard.replay.yard import Yard
from stackyard.spec import StackSpec, load
from stackyard.store import bundles, layout, releases
from stackyard.store.documents import public_text
from stackyard.store.keys import ensure_token
from stackyard.store.objects import Store
from stackyard.store.releases import Release

START = dt.date(2024, 1, 15)
A_DAY = 48

PROJECT = """\
name: toy
task: {type: binary, label: late}
data:
  source: {python: "rows:read"}
  time: at
  window: {start: 2024-01-01, end: 2024-01-15}
  columns:
    at: {type: datetime, known: before}
    x: {type: float, known: before}
    kind: {type: string, known: before}
    late: {type: boolean, known: after}
features: {function: "rows:build"}
training: {rounds: 10, parameters: {max_depth: 3, eta: 0.3}}
"""
ROWS = """\
import datetime as dt
import pathlib

import numpy as np
import polars as pl

HERE = pathlib.Path(__file__).parent


def read(start, end):
    days = []
    seen = HERE.parents[1] / ".stackyard" / "asked"
    with seen.open("a") as file:
        file.write(f"{start.date()} {end.date()}\\n")
    day = start
    while day < end:
        days.append(of(day))
        day += dt.timedelta(days=1)
    return pl.concat(days)


def of(day):
    random = np.random.default_rng(day.toordinal())
    count = 48
    turned = 1 if day.month == 1 else -1
    x = random.normal(size=count)
    late = random.random(count) < 1 / (1 + np.exp(-2 * turned * x))
    seconds = np.sort(random.integers(0, 86_400, count))
    frame = pl.DataFrame({
        "at": [day] * count, "x": x, "kind": random.choice(["a", "b", "c"], count), "late": late, "s": seconds,
    })
    return frame.with_columns((pl.col("at") + pl.duration(seconds="s")).alias("at")).drop("s")


def build(frame):
    return frame.select("x", "kind", pl.col("at").dt.hour().alias("hour"))
"""


class Town:
    """A checkout with a past, and a stack in it without processes of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "Pulumi.yaml").write_text("name: stackyard\n")
        for below in ("stacks", "examples/toy"):
            (folder / below).mkdir(parents=True)
        (folder / "examples/toy/project.yaml").write_text(PROJECT)
        (folder / "examples/toy/rows.py").write_text(ROWS)
        (folder / "stacks/replay.yaml").write_text("project: ../examples/toy\ntarget: local\nclock: virtual\n")
        self.state = folder / ".stackyard" / "replay"
        self.state.mkdir(parents=True)
        self.store = Store.open(self.state / "store")
        self.clock = FileClock(self.state / "clock")
        self.clock.set(dt.datetime.combine(START, dt.time(), dt.UTC))
        self.token = ensure_token(self.state / "labels-token")
        self.key = Ed25519PrivateKey.generate()
        self.database = f"sqlite:///{self.state / 'controller.sqlite'}"
        self.journal = Journal(self.database)
        self.journal.migrate()
        self.spec: StackSpec = load(folder / "stacks/replay.yaml")
        self.project = self.spec.project
        self.bundle = self._bundle()
        self.release(self.bundle, reason="the first model")

    def release(self, champion: str, **more: Any) -> None:
        """Append a Release at the clock's time."""
        number = len(releases.history(self.store, "toy", self.trusted)) + 1
        made = Release(model="toy", number=number, champion=champion, created=self.clock.now().isoformat(), **more)
        assert releases.publish(self.store, made, self.key)

    @property
    def trusted(self) -> tuple[str, ...]:
        return (public_text(self.key.public_key()),)

    def yard(self, port: int) -> Yard:
        """The stack as the replay sees it."""
        return Yard(
            model="toy",
            state=self.state,
            store=self.store,
            database=self.database,
            predict=f"http://127.0.0.1:{port}/predict",
            replica_ports=(port,),
            trusted=self.trusted,
            token_path=self.state / "labels-token",
            clock=self.clock,
        )

    def up(self, port: int) -> None:
        """Leave the card that `pulumi up` leaves."""
        card = {
            "stack": "replay", "stack_id": "0123abcd", "runtime": str(self.state), "state": str(self.state),
            "store": str(self.state / "store"), "model": "toy", "public_keys": list(self.trusted),
            "addresses": {"predict": f"http://127.0.0.1:{port}/predict"}, "processes": [], "replica_ports": [port],
            "database": self.database, "labels_token_path": str(self.state / "labels-token"),
            "clock": str(self.state / "clock"),
        }  # fmt: skip
        (self.state / "stack.json").write_text(json.dumps(card))

    def command(self, *arguments: str) -> subprocess.Popen[str]:
        """`stackyard replay ARGUMENTS` in this checkout."""
        code = "import sys; from stackyard.cli import main; sys.exit(main())"
        return subprocess.Popen(
            [sys.executable, "-c", code, "replay", *arguments],
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def rows(self, day: dt.date) -> dict[str, Any]:
        """The log of `day`, ids to rows, each once."""
        found = {}
        for key in self.store.keys(f"predictions/toy/{day}"):
            for row in pl.read_parquet(io.BytesIO(self.store.read(key))).iter_rows(named=True):
                found[row["request_id"]] = row
        return found

    def _bundle(self) -> str:
        folder, data = self.spec.project_folder, self.project.data
        frame = sources.read(data, folder, data.window)
        function = code.load(folder, self.project.features.function)
        computed = features.compute(function, frame, data)
        schema = FeatureSchema.fit(computed)
        matrix = xgboost.DMatrix(schema.encode(computed), frame["late"].to_numpy().astype(int))
        model = xgboost.train({"objective": "binary:logistic", "max_depth": 3, "nthread": 1}, matrix, 10)
        made = {"function": self.project.features.function, "schema": schema.model_dump(mode="json")}
        files = {"model.ubj": bytes(model.save_raw("ubj")), "features.json": json.dumps(made).encode()}
        facts = {"model": "toy", "model_digest": "0" * 64, "code": code.publish(self.store, folder)}
        return bundles.publish(self.store, files, facts | {"snapshot": "0" * 64})


class Service:
    """Answers like the replicas of a stack: predictions are logged and stored when asked to flush."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.asked: list[tuple[str, dt.datetime]] = []
        self.labels: list[tuple[str, Any, dt.datetime]] = []
        self.fail: collections.Counter[int] = collections.Counter()
        """Number of a request (from 1) to how often its answer is 500."""
        self.forget: set[int] = set()
        """Numbers of requests whose answers never reach the log."""
        self.victim: tuple[int, subprocess.Popen[str]] | None = None
        """After so many requests, who is to be killed."""
        self.behind = 0
        """How many Releases it has not taken up."""
        self.challenger: str | None = None
        """The state of its challenger, if it has one."""
        self._rows: list[dict[str, Any]] = []
        self._files = 0
        self._lock = threading.Lock()
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                self._answer(*service.post(self.path, self.headers, body))

            def do_GET(self) -> None:
                number = len(releases.history(town.store, "toy", town.trusted))
                arms = [{"state": service.challenger}] if service.challenger else []
                self._answer(200, {"release": number - service.behind, "draining": False, "arms": arms})

            def _answer(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """No more answers."""
        self._server.shutdown()
        self._server.server_close()

    def post(self, path: str, headers: Any, body: bytes) -> tuple[int, dict[str, Any]]:
        """The answer to a POST."""
        with self._lock:
            if path == "/predict":
                return self._predict(headers["x-request-id"], json.loads(body)["instances"])
            if headers["authorization"] != f"Bearer {self.town.token}":
                return 401, {"error": "no token"}
            return self._taken(json.loads(body)["labels"]) if path == "/labels" else self._flush()

    def _predict(self, request_id: str, rows: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        now = self.town.clock.now()
        self.asked.append((request_id, now))
        number = len(self.asked)
        if self.victim is not None and number == self.victim[0]:
            self._flush()  # as a replica does every second
            self.victim[1].send_signal(signal.SIGKILL)
        if self.fail[number]:
            self.fail[number + 1] = self.fail[number] - 1
            return 500, {"error": "a fault"}
        if number not in self.forget:
            score = 1 / (1 + float(np.exp(-rows[0]["x"])))
            self._rows.append({
                "request_id": request_id, "row": 0, "time": now, "bundle": self.town.bundle, "release": 1,
                "arm": "champion", "outcome": "ok", "seconds": 0.001, "outputs": [score],
            })  # fmt: skip
        return 200, {"predictions": [{"probability": 0.5}]}

    def _taken(self, labels: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        now = self.town.clock.now()
        self.labels += [(each["request_id"], each["label"], now) for each in labels]
        frame = pl.DataFrame(
            [{"request_id": e["request_id"], "row": 0, "label": float(e["label"]), "received": now} for e in labels],
            schema_overrides={"row": pl.UInt32},
        )
        self._write(layout.labels("toy", now.date().isoformat(), self._name()), frame)
        return 202, {"accepted": len(labels)}

    def _flush(self) -> tuple[int, dict[str, Any]]:
        rows, self._rows = self._rows, []
        for day in {row["time"].date() for row in rows}:
            frame = pl.DataFrame(
                [row for row in rows if row["time"].date() == day], schema_overrides={"row": pl.UInt32}
            )
            self._write(layout.predictions("toy", day.isoformat(), self._name()), frame)
        return 200, {"rows": len(rows)}

    def _name(self) -> str:
        self._files += 1
        return f"{self._files:06d}.parquet"

    def _write(self, key: str, frame: pl.DataFrame) -> None:
        data = io.BytesIO()
        frame.write_parquet(data)
        assert self.town.store.create(key, data.getvalue())


class Controller(threading.Thread):
    """Looks at the clock and says that all is settled, unless it is `busy`."""

    def __init__(self, town: Town) -> None:
        super().__init__(daemon=True)
        self.town, self.busy, self.over, self._told = town, threading.Event(), threading.Event(), threading.Event()
        self.lived: list[dt.datetime] = []
        """Every time at which it looked, each once."""
        self.start()

    def work(self) -> None:
        """Be busy from now on; returns once that is told."""
        self.busy.set()
        assert self._told.wait(20)

    def run(self) -> None:
        clock = clock_of(self.town.state / "clock", known=True)
        while not self.over.is_set():
            now, settled = clock.now(), not self.busy.is_set()
            if now not in self.lived[-1:]:
                self.lived.append(now)
            self.town.journal.beat("toy", now, settled, "" if settled else "run 2 is training")
            if not settled:
                self._told.set()
            time.sleep(0.02)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command that ends by itself."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err
