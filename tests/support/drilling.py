"""Challengers that misbehave, let loose on a real service under steady traffic: what users saw, and when it ended.

Harm (errors, hanging, memory, death, constants) is played in real time: requests come at RATE, the controller looks
every second. Quality (worse, equal) needs labels that come a day later, so its days are played one after the other.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import aiohttp
import numpy as np
import polars as pl

import parcels
from drilled import (
    A_DAY,
    AFTERWARDS,
    AT_ONCE,
    DAYS,
    LONGEST,
    PARCELS,
    RATE,
    ROLLOUTS,
    SHARE,
    SPARED,
    STEPS,
    TOLERANCE,
    Kind,
    Outcome,
    Reply,
)
from drillground import Ground
from stackyard.data import code
from stackyard.serving import model as models
from stackyard.store import bundles
from stackyard.store.releases import Release

_SECOND = dt.timedelta(seconds=1)


class Drills:
    """Runs drills on one ground, one after the other."""

    def __init__(self, ground: Ground, speed: float = 1.0) -> None:
        """`speed`: of the clock in real-time drills; whoever wants to know how long people wait leaves it at 1."""
        self.ground, self._speed = ground, speed
        self._stack, self._loops = ExitStack(), dict[str, Any]()
        self._models: dict[str, models.Model] = {}
        self._numbers = itertools.count()
        self._random = np.random.default_rng(11)

    def close(self) -> None:
        """End the controllers; the ground stays."""
        self._stack.close()

    def harm(self, drill: str, kind: Kind) -> Outcome:
        """A challenger that does that deed from its first parcel on, in real time."""
        ground, loop = self.ground, self._loop(kind)
        began = self._enter(drill, loop)
        replies: list[Reply] = []
        with ground.alive(loop, self._speed):
            gone, later = asyncio.run(self._besiege(replies, began))
        ground.flush()
        log = self._log(began)
        end = self._end(began)
        mine = log.filter(arm=kind, bundle=began.arms[0].bundle)
        asked = mine.filter(~pl.col("outcome").is_in(SPARED))
        faults = asked if drill == "answers constants" else asked.filter(pl.col("outcome") != "ok")
        first = faults["time"].min()
        assert isinstance(first, dt.datetime)
        before = pl.col("time") < dt.datetime.fromisoformat(end.created) + _SECOND  # it is told in whole seconds
        return self._outcome(
            drill,
            f"{kind} {SHARE:.0%}" if kind == "canary" else kind,
            began,
            replies,
            requests=log.filter(before)["request_id"].n_unique(),
            tried=asked.filter(before)["request_id"].n_unique(),
            later=later,
            seconds=(gone - first).total_seconds(),
        )

    def quality(self, drill: str) -> Outcome:
        """A challenger that answers soundly, and is worse or as good: days with labels that follow."""
        ground, loop = self.ground, self._loop("quality")
        began = self._enter(drill, loop)
        first = ground.clock.now()
        replies: list[Reply] = []
        truths: list[dict[str, Any]] = []
        while self._end(began, missing=True) is None:
            assert ground.clock.now() - first < dt.timedelta(days=DAYS + 6), ground.chain()[-1].reason
            replies_today, truths = asyncio.run(self._day(truths))
            replies += replies_today
            ground.settle(loop)
            if ground.chain()[-1].arms:
                ground.follow()
        log = self._log(began, whole=True)
        asked = log.filter(pl.col("arm") != "champion", ~pl.col("outcome").is_in(SPARED))
        return self._outcome(
            drill,
            "shadow, then canary 50%",
            began,
            replies,
            requests=len(replies),
            tried=asked["request_id"].n_unique(),
            later=0,
            days=(ground.clock.now() - first) / dt.timedelta(days=1),
        )

    def _loop(self, name: str) -> Any:
        if name not in self._loops:
            self._loops[name] = self._stack.enter_context(self.ground.rollout(**ROLLOUTS[name]))
        return self._loops[name]

    def _enter(self, drill: str, loop: Any) -> Release:
        """Bring the challenger; returns the Release of its first stage, which every replica serves."""
        ground = self.ground
        ground.settle(loop)
        ground.bring(ground.maker.named(drill))
        ground.settle(loop)
        began = ground.chain()[-1]
        assert began.step == 0 and began.arms, began.reason
        ground.follow()
        return began

    async def _besiege(self, replies: list[Reply], began: Release) -> tuple[dt.datetime, int]:
        """Send at RATE until nobody serves the challenger; returns when that was, and its answers after that."""
        ground, deadline = self.ground, time.monotonic() + LONGEST
        async with _client(ground) as client:
            watch = asyncio.create_task(asyncio.to_thread(self._until_gone, began, deadline))
            tasks = [asyncio.create_task(self._ask(client, 1))]
            while not watch.done():
                tasks.append(asyncio.create_task(self._ask(client, 1)))
                await asyncio.sleep(1 / RATE)
            gone = await watch
            replies += await asyncio.gather(*tasks)
            after = [await self._ask(client, 1) for _ in range(AFTERWARDS)]
        replies += after
        return gone, sum(reply.bundle == began.arms[0].bundle for reply in after)

    def _until_gone(self, began: Release, deadline: float) -> dt.datetime:
        """When every replica served a Release without the challenger. Raises TimeoutError."""
        while any(one["release"] <= began.number or one["arms"] for one in self.ground.served()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"release {began.number} is not taken back: {self.ground.chain()[-1].reason}")
            time.sleep(0.1)
        return self.ground.clock.now()

    async def _day(self, truths: list[dict[str, Any]]) -> tuple[list[Reply], list[dict[str, Any]]]:
        """One day of requests, and the truths of the day before; returns the replies and the day's own truths."""
        ground, known = self.ground, list[dict[str, Any]]()
        midnight, replies = ground.clock.now(), list[Reply]()
        async with _client(ground) as client:
            for step in range(STEPS):
                ground.clock.set(midnight + (step + 0.5) * dt.timedelta(days=1) / STEPS)
                share = truths[step::STEPS]
                for start in range(0, len(share), 500):
                    await _tell(client, ground.token, share[start : start + 500])
                gate = asyncio.Semaphore(AT_ONCE)
                asks = [self._ask(client, PARCELS, gate, known) for _ in range(A_DAY // STEPS)]
                replies += await asyncio.gather(*asks)
        await asyncio.to_thread(ground.flush)
        ground.clock.set(midnight + dt.timedelta(days=1))
        return replies, known

    async def _ask(
        self,
        client: aiohttp.ClientSession,
        parcels_in_it: int,
        gate: asyncio.Semaphore | None = None,
        known: list[dict[str, Any]] | None = None,
    ) -> Reply:
        frame = parcels.rows(parcels_in_it, self._random, self.ground.clock.now())
        asked, request_id = parcels.instances(frame), f"drill-{next(self._numbers):08d}"
        body, headers = {"instances": asked}, {"x-request-id": request_id}
        try:
            async with gate or asyncio.Semaphore(), client.post("/predict", json=body, headers=headers) as told:
                if told.status != 200:
                    return Reply(told.status, "", (), asked)
                found, bundle = await told.json(), told.headers["x-stackyard-bundle"]
        except (aiohttp.ClientError, TimeoutError):
            return Reply(0, "", (), asked)
        if known is not None:
            labels = frame["late"].to_list()
            known += [{"request_id": request_id, "row": row, "label": label} for row, label in enumerate(labels)]
        return Reply(200, bundle, tuple(float(each["probability"]) for each in found["predictions"]), asked)

    def _end(self, began: Release, *, missing: bool = False) -> Any:
        """The Release that says what became of the candidate."""
        found = [each for each in self.ground.chain() if each.candidate == began.candidate and each.outcome]
        assert found or missing
        return found[0] if found else None

    def _outcome(self, drill: str, stage: str, began: Release, replies: Sequence[Reply], **figures: Any) -> Outcome:
        end, challenger = self._end(began), began.arms[0].bundle
        exposed = sum(reply.bundle == challenger for reply in replies)
        return Outcome(
            drill=drill,
            stage=stage,
            ended=str(end.outcome),
            exposed=exposed,
            failed=sum(reply.status != 200 for reply in replies),
            wrong=self._wrong(drill, challenger, [reply for reply in replies if reply.status == 200]),
            reason=end.reason,
            **{"seconds": None, "days": None, **figures},
        )

    def _wrong(self, drill: str, challenger: str, replies: Sequence[Reply]) -> int:
        """Answers that differ from those of the model that they name, had it done nothing bad."""
        count = 0
        for bundle in {reply.bundle for reply in replies}:
            mine = [reply for reply in replies if reply.bundle == bundle]
            sound = self._model("equal" if bundle == challenger and drill in parcels.DEEDS else None, bundle)
            frame = sound.frame([row for reply in mine for row in reply.asked])
            expected = np.asarray(sound.predict(frame))[:, 0]
            given = np.array([answer for reply in mine for answer in reply.answers])
            count += int((np.abs(expected - given) > TOLERANCE).sum())
        return count

    def _model(self, named: str | None, bundle: str) -> models.Model:
        ground = self.ground
        digest = bundle if named is None else ground.maker.named(named)
        if digest not in self._models:
            folder = bundles.fetch(ground.store, digest, ground.folder / "mine")
            unpacked = code.unpack(ground.store, bundles.manifest(ground.store, digest)["code"], ground.folder / "code")
            self._models[digest] = models.load(folder, digest, unpacked)
        return self._models[digest]

    def _log(self, began: Release, *, whole: bool = False) -> pl.DataFrame:
        """The log's rows of the stage, or of all stages of its candidate."""
        numbers = [each.number for each in self.ground.chain() if each.candidate == began.candidate and each.arms]
        heads = ["request_id", "time", "bundle", "release", "arm", "outcome"]
        keys = list(self.ground.store.keys("predictions"))
        frames = [pl.read_parquet(self.ground.store.read(key), columns=heads) for key in keys]
        return pl.concat(frames).filter(pl.col("release").is_in(numbers if whole else [began.number]))


def _client(ground: Ground) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(ground.url, timeout=aiohttp.ClientTimeout(total=20))


async def _tell(client: aiohttp.ClientSession, token: str, truths: list[dict[str, Any]]) -> None:
    headers = {"authorization": f"Bearer {token}"}
    async with client.post("/labels", json={"labels": truths}, headers=headers) as told:
        assert told.status == 202, await told.text()


HARM: tuple[tuple[str, Kind], ...] = tuple(itertools.product(parcels.DEEDS, ("canary", "shadow")))
"""Every deed in both kinds of stage."""
QUALITY = ("worse by 0.02 AUC", "equal")


def every(names: Sequence[str]) -> Iterator[Callable[[Drills], Outcome]]:
    """The drills of those names, or all of them where there are none."""
    for drill, kind in HARM:
        if not names or drill in names:
            yield lambda drills, drill=drill, kind=kind: drills.harm(drill, kind)
    for drill in QUALITY:
        if not names or drill in names:
            yield lambda drills, drill=drill: drills.quality(drill)
