"""Challengers that misbehave in every way, in a real replica: users see the champion's answers and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from hostile import DEED
from stackyard.data import code
from stackyard.serving import model as models
from stackyard.serving.flush import flush_all
from stackyard.serving.replica import Replica
from stackyard.store import bundles
from stackyard.store.releases import Arm

TRIGGER = 5000
"""Distances from here on bring out what a challenger has in it; golden rows lie below."""

BAD = (
    DEED
    + """def build(frame):
    if frame["distance"].max() >= 5000:
        deed()
    return frame.select(
        pl.col("departs").dt.hour().alias("hour"), "carrier", "distance",
        (pl.col("wind").fill_null(0.0) * 2).alias("gust"), pl.col("holiday"),
    )
"""
)

DEEDS = {
    "errors": ("raise ValueError('no')", {"error"}),
    "hangs": ("time.sleep(600)", {"timeout"}),
    "eats memory": ("while True: HOARD.append(b'x' * (1 << 26))", {"error", "died", "timeout"}),
    "dies by signal": ("os.kill(os.getpid(), 9)", {"died"}),
    "crashes": ("ctypes.string_at(0)", {"died"}),
    "exits": ("sys.exit(3)", {"died"}),
    "answers NaN": ("answer(float('nan'))", {"not_finite"}),
}
TIMEOUT = 0.3
SLACK = 0.5
"""Seconds that a busy machine may add to an answer."""


def until(condition: Callable[[], Any], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@dataclass
class Live:
    """One replica with a champion, and a way to ask it."""

    yard: Any
    replica: Replica
    champion: str
    client: httpx.Client
    model: models.Model

    def arms(self) -> list[dict[str, Any]]:
        return self.client.get("/v2").json()["arms"]

    def state(self) -> str:
        found = self.arms()
        return found[0]["state"] if found else "none"

    def challenge(self, kind: str, bundle: str, share: float = 1.0, wait: str = "ready", **more: Any) -> Arm:
        """Have the Release carry a challenger, and wait for its process."""
        more = {"fuse": 2, "timeout": TIMEOUT, "memory": 512 << 20, **more}
        arm = Arm(bundle=bundle, kind=kind, share=share, **more)  # type: ignore[arg-type]
        self.yard.release(self.champion, arm)
        until(lambda: self.arms() and self.arms()[0]["bundle"] == bundle and self.state() == wait, f"it is {wait}")
        return arm

    def bad(self, name: str) -> str:
        """A bundle whose code does that deed."""
        return self.publish(BAD.format(deed=DEEDS[name][0]))

    def publish(self, source: str, seed: int = 0) -> str:
        return self.yard.publish(seed=seed, frozen=self.yard.freeze(source))

    def ask(self, row: dict[str, Any], request_id: str) -> httpx.Response:
        return self.client.post("/predict", json={"instances": [row]}, headers={"x-request-id": request_id})

    def expected(self, row: dict[str, Any]) -> float:
        return float(self.model.predict(self.model.frame([row]))[0, 0])

    def logged(self, prefix: str) -> pl.DataFrame:
        """The log's rows of requests whose id begins so."""
        flush_all([self.replica.server.port], self.yard.token)
        keys = list(self.yard.store.keys("predictions"))
        frames = [pl.read_parquet(self.yard.store.read(key)) for key in keys]
        return pl.concat(frames, how="vertical").filter(pl.col("request_id").str.starts_with(prefix))

    def count(self, arm: str, outcome: str) -> float:
        labels = {"arm": arm, "outcome": outcome}
        return self.replica.metrics.registry.get_sample_value("stackyard_arm_requests_total", labels) or 0.0


@pytest.fixture(scope="module")
def live(shared_yard: Any, free_ports: Any) -> Iterator[Live]:
    champion = shared_yard.publish(seed=1)
    shared_yard.release(champion)
    replica = Replica(shared_yard.arguments(free_ports(1), deadline=5.0, drain=0.5))
    replica.follower.trial = lambda *_: None  # each real trial costs seconds; one test below has its own
    folder = bundles.fetch(shared_yard.store, champion, shared_yard.folder / "mine")
    unpacked = code.unpack(shared_yard.store, shared_yard.code, shared_yard.folder / "my-code")
    with httpx.Client(base_url=f"http://127.0.0.1:{replica.server.port}", timeout=20, trust_env=False) as client:
        yield Live(shared_yard, replica, champion, client, models.load(folder, champion, unpacked))
    replica.drain()


def trigger(sample: Any, index: int = 0) -> dict[str, Any]:
    return {**sample(index), "distance": TRIGGER + index}


@pytest.mark.parametrize("name", DEEDS)
def test_a_bad_canary_fails_no_request_and_is_cut_off(live: Live, sample: Any, name: str) -> None:
    """Earns: drill 9 as a user sees it: every answer the champion's, in time, and an end after `fuse` failures."""
    bundle = live.bad(name)
    live.challenge("canary", bundle)
    prefix, asked, slowest = f"canary-{name.replace(' ', '-')}-", 0, 0.0
    good = live.ask(sample(1), f"{prefix}good")
    assert good.headers["x-stackyard-bundle"] == bundle == good.json()["bundle"]
    while live.state() != "fused":
        row, began = trigger(sample, asked), time.perf_counter()
        answer = live.ask(row, f"{prefix}{asked:03d}")
        slowest = max(slowest, time.perf_counter() - began)
        assert answer.status_code == 200 and answer.headers["x-stackyard-bundle"] == live.champion
        assert answer.json()["predictions"][0]["probability"] == pytest.approx(live.expected(row), abs=1e-6)
        asked += 1
        assert asked < 100_000
    assert slowest < TIMEOUT + SLACK
    assert live.ask(sample(2), f"{prefix}after").headers["x-stackyard-bundle"] == live.champion
    found = live.logged(prefix)
    assert found.filter(arm="champion").height == asked + 1, "each answer once"
    outcomes = set(found.filter(pl.col("arm") == "canary", pl.col("request_id").str.contains(r"-\d{3}"))["outcome"])
    assert outcomes & DEEDS[name][1] and outcomes <= DEEDS[name][1] | {"died", "dropped"}
    asked_of_it = found.filter(pl.col("arm") == "canary", pl.col("outcome").is_in(["error", "timeout", "not_finite"]))
    assert asked_of_it.height <= 2, "the fuse is 2"
    assert found.filter(request_id=f"{prefix}after", arm="canary")["outcome"].to_list() == ["fused"]
    assert live.arms()[0]["fused"] and live.arms()[0]["failures"] >= 2
    assert found.filter(arm="canary", outcome="ok")["request_id"].to_list() == [f"{prefix}good"]


@pytest.mark.parametrize("name", ["errors", "hangs", "dies by signal"])
def test_a_bad_shadow_is_cut_off_and_nobody_waits_for_it(live: Live, sample: Any, name: str) -> None:
    """Earns: the same for a shadow: answers keep the champion's pace while it hangs or dies."""
    live.challenge("shadow", live.bad(name))
    prefix, asked, slowest = f"shadow-{name.replace(' ', '-')}-", 0, 0.0
    while live.state() != "fused":
        row, began = trigger(sample, asked % 900), time.perf_counter()
        answer = live.ask(row, f"{prefix}{asked:06d}")
        slowest = max(slowest, time.perf_counter() - began)
        assert answer.status_code == 200 and answer.headers["x-stackyard-bundle"] == live.champion
        asked += 1
        assert asked < 200_000
    assert slowest < SLACK
    found = live.logged(prefix)
    assert found.filter(arm="champion").height == asked
    assert found.filter(arm="shadow").height <= asked
    assert set(found.filter(arm="shadow")["outcome"]) <= DEEDS[name][1] | {"died", "dropped", "fused"}


def test_a_challenger_that_answers_constants_is_the_statistics_business(live: Live, sample: Any) -> None:
    """Earns: that the replica gives what it was told to give: judging answers is not its work."""
    live.challenge("canary", live.publish(BAD.format(deed="answer(0.5)"), seed=3), fuse=3)
    for index in range(5):
        answer = live.ask(trigger(sample, index), f"constants-{index}")
        assert answer.json()["predictions"] == [{"probability": 0.5}]
    found = live.logged("constants-")
    assert found.select("arm", "outcome").unique().rows() == [("canary", "ok")]
    assert found["outputs"].to_list() == [[0.5]] * 5 and found["seconds"].min() > 0  # type: ignore[operator]


def test_a_caller_stays_on_one_arm_and_a_larger_share_keeps_him(live: Live, sample: Any) -> None:
    """Earns: stickiness by the declared key, over two steps of one candidate and without a new process."""
    good = live.yard.publish(seed=4)

    def canaried(share: float) -> set[int]:
        live.challenge("canary", good, share, key="distance")
        until(lambda: live.arms()[0]["share"] == share, "the step is taken")
        found = set()
        for distance in range(200, 300):
            row = {**sample(0), "distance": distance}
            bundles_of = {live.ask(row, f"sticky-{distance}-{n}").headers["x-stackyard-bundle"] for n in range(2)}
            assert len(bundles_of) == 1
            found |= {distance} if bundles_of == {good} else set()
        return found

    few, process = canaried(0.2), live.replica.challenger._runner.process.pid  # type: ignore[union-attr]
    many = canaried(0.6)
    assert few < many and 5 <= len(few) <= 38 and 42 <= len(many) <= 78
    assert live.replica.challenger._runner.process.pid == process  # type: ignore[union-attr]


def test_a_shadow_sees_what_the_champion_answered(live: Live, sample: Any) -> None:
    """Earns: paired evidence: the same requests and rows, both outputs, in the log."""
    other = live.yard.publish(seed=5)
    live.challenge("shadow", other)
    rows = [sample(index) for index in range(6)]
    for index in range(0, 6, 2):
        body = {"instances": rows[index : index + 2]}
        live.client.post("/predict", json=body, headers={"x-request-id": f"paired-{index}"})
    found = live.logged("paired-").sort("request_id", "row", "arm")
    assert found["arm"].to_list() == ["champion", "shadow"] * 6 and set(found["outcome"]) == {"ok"}
    assert set(found.filter(arm="shadow")["bundle"]) == {other}
    pairs = found.select("request_id", "row", "distance").unique()
    assert pairs.height == 6 and found["outputs"].n_unique() > 6


def test_a_failure_that_the_champion_shares_is_the_requests(live: Live, sample: Any) -> None:
    """Earns: that a caller with odd rows cannot blow the fuse of a sound challenger."""
    live.challenge("canary", live.bad("errors"))
    for index in range(4):
        assert live.ask({**sample(0), "distance": "far"}, f"shared-{index}").status_code == 422
    assert live.arms()[0]["failures"] == 0 and live.state() == "ready"


def test_a_killed_challenger_is_started_again_and_a_sound_one_forgiven(live: Live, sample: Any) -> None:
    """Earns: that one death is not the end of a rollout, and fails nobody."""
    good = live.yard.publish(seed=6)
    live.challenge("canary", good)
    first = live.replica.challenger._runner.process.pid  # type: ignore[union-attr]
    os.kill(first, signal.SIGKILL)
    until(lambda: live.ask(sample(0), "killed-again").status_code == 200 and live.state() != "ready", "it is seen")
    until(lambda: live.state() == "ready", "it is started again")
    assert live.ask(sample(0), "killed-after").headers["x-stackyard-bundle"] == good
    assert (live.arms()[0]["failures"], live.arms()[0]["fused"]) == (1, False)


def test_a_challenger_that_is_late_once_goes_on(live: Live, sample: Any) -> None:
    """Earns: that a busy machine costs a sound challenger one answer, not its process and the seconds to start it."""
    late = live.publish(BAD.format(deed="HOARD or time.sleep(0.8); HOARD.append(1)"), seed=9)
    live.challenge("canary", late)
    process = live.replica.challenger._runner.process.pid  # type: ignore[union-attr]
    assert live.ask(trigger(sample), "late-first").headers["x-stackyard-bundle"] == live.champion
    until(lambda: live.state() == "ready", "it has answered")
    assert live.ask(trigger(sample), "late-second").headers["x-stackyard-bundle"] == late
    assert live.replica.challenger._runner.process.pid == process  # type: ignore[union-attr]
    assert (live.arms()[0]["failures"], live.arms()[0]["fused"]) == (1, False)


def test_a_challenger_that_cannot_be_loaded_is_told_and_nobody_notices(
    live: Live, sample: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earns: the real trial against a challenger that dies in it, and one that is not there."""
    from stackyard.serving import probe

    monkeypatch.setattr(live.replica.follower, "trial", probe.run)
    broken = live.publish("import os\nos.kill(os.getpid(), 11)\n" + BAD.format(deed="pass"), seed=7)
    for bundle, words in ((broken, "signal 11"), ("0" * 64, "lacks")):
        live.challenge("canary", bundle, wait="refused")
        assert words in live.arms()[0]["reason"]
        assert live.ask(sample(0), "refused-one").headers["x-stackyard-bundle"] == live.champion
    assert live.client.get("/v2").json()["load_failure"] is None


def test_a_challenger_of_another_task_or_with_other_inputs_is_refused(live: Live) -> None:
    """Earns: that a canary's answer always has the form that callers know."""
    live.challenge("canary", live.yard.publish(task="regression"), wait="refused")
    assert "another task" in live.arms()[0]["reason"]


def test_promotion_and_rollback_to_a_warm_model_swap_within_a_poll(live: Live, sample: Any) -> None:
    """Earns: that a rollback is a pointer swap: nothing is loaded, and requests go on meanwhile."""
    other = live.yard.publish(seed=8)
    live.yard.release(live.champion, warm=(other,))
    until(lambda: other in live.client.get("/v2").json()["warm"], "it is warm")

    def loads() -> float:
        return live.replica.metrics.registry.get_sample_value("stackyard_model_swap_seconds_sum") or 0.0

    for digest in (other, live.champion):
        before, began = loads(), time.perf_counter()
        live.yard.release(digest, warm=(other, live.champion))
        until(lambda digest=digest: live.ask(sample(0), "swap-now").headers["x-stackyard-bundle"] == digest, "swapped")
        assert time.perf_counter() - began < 2.0 and loads() - before < 0.05
    assert live.arms() == []


def test_the_process_of_a_challenger_ends_with_its_replica_whatever_kills_it(yard: Any, free_ports: Any) -> None:
    """Earns: that kill -9 of a replica leaves nothing behind that eats memory."""
    good = yard.publish(seed=2)
    yard.release(yard.publish(seed=1), Arm(bundle=good, kind="shadow", share=1.0))
    script = (
        "import json, sys, time\nfrom stackyard.serving.replica import Replica\n"
        "replica = Replica(json.loads(sys.argv[1]))\n"
        "while replica.challenger.state != 'ready': time.sleep(0.02)\n"
        "print(replica.challenger._runner.process.pid, flush=True)\ntime.sleep(600)\n"
    )
    command = [sys.executable, "-c", script, json.dumps(yard.arguments(free_ports(1)))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        child = next(int(line) for line in process.stdout if line.strip().isdigit())
        assert Path(f"/proc/{child}").exists()
        process.kill()
        until(lambda: not _alive(child), "the child is gone", 10)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_a_crowd_loses_nothing_while_its_canary_hangs_and_dies(live: Live, sample: Any) -> None:
    """Earns: 0 failed and 0 wrong of 2,000 concurrent answers, a fifth of which are a hanging challenger's."""
    live.challenge("canary", live.bad("hangs"), 0.2)

    expected = {index: live.expected(trigger(sample, index)) for index in range(50)}
    answers: list[tuple[int, float]] = []

    async def client(numbers: Iterator[int]) -> None:
        async with httpx.AsyncClient(base_url=live.client.base_url, timeout=20, trust_env=False) as http:
            for index in numbers:
                body = {"instances": [trigger(sample, index % 50)]}
                answer = await http.post("/predict", json=body, headers={"x-request-id": f"crowd-{index:05d}"})
                given = answer.json()["predictions"][0]["probability"] if answer.status_code == 200 else -1.0
                answers.append((answer.status_code, abs(given - expected[index % 50])))

    async def crowd() -> None:
        numbers = iter(range(2000))
        await asyncio.gather(*(client(numbers) for _ in range(16)))

    asyncio.run(crowd())
    assert len(answers) == 2000 and {status for status, _ in answers} == {200} and max(off for _, off in answers) < 1e-6
    found = live.logged("crowd-")
    assert found.filter(arm="champion").height == 2000
    assert 300 <= found.filter(arm="canary").height <= 500
