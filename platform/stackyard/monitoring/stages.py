"""What a rollout's stage has shown so far, read from the prediction log as it grows: each file once, in bounded memory.

Counts are of requests, whatever a proxy repeated; rows for comparisons of quality are a fixed sample once there are
many. A stage is the rows that say its Release: nothing of an earlier stage, of another challenger or later than `now`.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
import polars as pl

from stackyard.data.sketches import Sketch
from stackyard.monitoring.identities import Identities
from stackyard.monitoring.join import hashed, valid
from stackyard.monitoring.latencies import Latencies
from stackyard.monitoring.logs import OUTPUTS, Files, days_between
from stackyard.monitoring.stage_rows import ArmEvidence, StageKey, StageRows
from stackyard.monitoring.yardstick import Yardstick

SAMPLED_ROWS = 200_000
"""Rows of an arm, and labels, that are kept; beyond, half of them are let go, by their hash, and half of what comes."""
BATCH_ROWS = 100_000
FEW_ANSWERS = 100
"""Below so many answers of the champion in the stage, its latency is taken from before the stage."""
MANY_FILES = 20_000
"""So many files more, and old days, where only a dead replica's last rows may appear, are listed one time less."""
_DAY = dt.timedelta(days=1)
_HEADS = ("request_id", "row", "time", "bundle", "release", "arm", "outcome", "seconds", OUTPUTS)


@dataclass
class _Arm:
    """One arm, so far."""

    outputs: list[Sketch]
    requests: Identities = field(default_factory=Identities)
    callers: Identities = field(default_factory=Identities)
    outcomes: Counter[str] = field(default_factory=Counter)
    latencies: Latencies = field(default_factory=Latencies)
    rows: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_ROWS))


class Stage:
    """Gathers one stage's evidence. Not for several threads; another process finds the same."""

    def __init__(self, files: Files, yardstick: Yardstick, stage: StageKey) -> None:
        self._files, self._yardstick, self._stage = files, yardstick, stage
        empty = [sketch.empty() for sketch in yardstick.reference.outputs]
        self._arms = {"champion": _Arm(list(empty)), stage.kind: _Arm(list(empty))}
        self._before = Latencies()
        self._labels = pl.DataFrame(schema=_TRUTH)
        self._seen: set[str] = set()
        self._read = 0
        self._fused: set[str] = set()
        self._limit = 2**64
        self._looks = 0
        self._looked = stage.started.astimezone(dt.UTC).date()

    def gather(self, now: dt.datetime, margin: float) -> StageRows:
        """Read what is new, and tell all that is known at `now`; `margin` of latency in seconds."""
        for frame in self._new_predictions(now):
            self._take(frame)
        self._take_labels(now)
        self._looks += 1
        self._looked = now.astimezone(dt.UTC).date()
        return self._told(now, margin)

    def _days(self, now: dt.datetime) -> Iterator[dt.date]:
        """All days of the stage; with very many files mostly the newest two, and all of them now and then."""
        first, last = self._stage.started.astimezone(dt.UTC).date(), now.astimezone(dt.UTC).date()
        seldom = self._looks % (1 + len(self._seen) // MANY_FILES)
        return days_between(max(first, min(last, self._looked) - _DAY) if seldom else first, last)

    def _new_predictions(self, now: dt.datetime) -> Iterator[pl.DataFrame]:
        """Rows of files not read before, in batches; a file with rows after `now` is left for later.

        A file counts as seen when its rows are handed out, not before: when the store fails, it is read again.
        """
        waiting: dict[str, pl.DataFrame] = {}
        size = 0
        for key in [key for day in self._days(now) for key in self._files.predictions(day)]:
            if key in self._seen:
                continue
            frame = self._files.rows(key, _HEADS)
            if frame.select((pl.col("time") > now).any()).item():
                continue
            waiting[key] = frame.select(*_keys(frame), *_HEADS[2:], "row", self._callers(key, frame), _replica(key))
            size += frame.height
            if size >= BATCH_ROWS:
                yield self._handed(waiting)
                waiting, size = {}, 0
        if waiting:
            yield self._handed(waiting)

    def _handed(self, waiting: dict[str, pl.DataFrame]) -> pl.DataFrame:
        self._seen.update(waiting)
        self._read += len(waiting)
        return pl.concat(waiting.values())

    def _callers(self, key: str, frame: pl.DataFrame) -> pl.Series:
        """Hashes of who asked, one a row."""
        name = self._stage.key
        inputs = None
        if name is not None and name in self._yardstick.columns:
            inputs = self._files.inputs(key, {name: self._yardstick.columns[name]})
        who = frame.select("request_id") if inputs is None else inputs
        return who.hash_rows().alias("caller")

    def _take(self, frame: pl.DataFrame) -> None:
        stage = self._stage
        mine = pl.col("release") == stage.release
        champion = frame.filter(pl.col("arm") == "champion")
        self._before.add(champion.filter(~mine & (pl.col("row") == 0))["seconds"])
        self._take_arm(self._arms["champion"], champion.filter(mine))
        challenger = frame.filter(mine & (pl.col("arm") == stage.kind) & (pl.col("bundle") == stage.challenger))
        self._take_arm(self._arms[stage.kind], challenger)
        self._fused |= set(challenger.filter(pl.col("outcome") == "fused")["replica"])

    def _take_arm(self, arm: _Arm, frame: pl.DataFrame) -> None:
        firsts = frame.filter(pl.col("row") == 0).sort("time", descending=True).unique("request", keep="first")
        fresh = firsts.filter(pl.Series(~arm.requests.known(firsts["request"].to_numpy()), dtype=pl.Boolean))
        if fresh.is_empty():
            return
        arm.requests.add(fresh["request"].to_numpy())
        arm.callers.add(fresh["caller"].to_numpy())
        arm.outcomes.update(dict(fresh["outcome"].value_counts().rows()))
        arm.latencies.add(fresh.filter(pl.col("outcome") == "ok")["seconds"])
        sound = (pl.col("outcome") == "ok") & (pl.col(OUTPUTS).list.len() == self._yardstick.width)
        # A proxy's second try has rows of its own: the time says which rows belong together.
        rows = frame.filter(sound).join(
            fresh.select("request", "time", "replica"), on=["request", "time", "replica"], how="semi"
        )
        outputs = self._matrix(rows[OUTPUTS])
        if rows.height:
            sketches = self._yardstick.reference.sketch_outputs(outputs)
            arm.outputs = [one + two for one, two in zip(arm.outputs, sketches, strict=True)]
        arm.rows = pl.concat([arm.rows, self._sampled(rows.select("about", "request", OUTPUTS))])
        self._shrink(arm.rows.height)

    def _take_labels(self, now: dt.datetime) -> None:
        parts, read = [self._labels], set[str]()
        for key in [key for day in self._days(now) for key in self._files.labels(day)]:
            if key in self._seen:
                continue
            found = hashed(self._files.labelled(key))
            if found.select((pl.col("received") > now).any()).item():
                continue
            read.add(key)
            parts.append(self._sampled(found.filter(valid(self._yardstick.task))))
            if sum(part.height for part in parts) > 2 * SAMPLED_ROWS:
                parts = [self._newest(parts)]
        self._labels = self._newest(parts)
        self._seen |= read  # only now: a store that fails before leaves all of them to be read again

    def _newest(self, parts: list[pl.DataFrame]) -> pl.DataFrame:
        """The newest label of each row."""
        order = pl.concat(parts).sort("about", "received", "label", descending=[False, True, True])
        self._labels = order.unique("about", keep="first", maintain_order=True)
        self._shrink(self._labels.height)
        return self._labels

    def _shrink(self, rows: int) -> None:
        """Halve the sample until `rows` of it fit."""
        while rows > SAMPLED_ROWS:
            self._limit //= 2
            for arm in self._arms.values():
                arm.rows = self._sampled(arm.rows)
            self._labels = self._sampled(self._labels)
            rows //= 2

    def _sampled(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows if self._limit == 2**64 else rows.filter(pl.col("about") < self._limit)

    def _told(self, now: dt.datetime, margin: float) -> StageRows:
        champion, challenger = self._arms["champion"], self._arms[self._stage.kind]
        usual = champion.latencies if champion.latencies.total >= FEW_ANSWERS else self._before + champion.latencies
        limit = usual.quantile(0.99)
        slow = [0 if limit is None else arm.latencies.above(limit + margin) for arm in (champion, challenger)]
        theirs = champion.rows
        spared = champion.requests.shared(challenger.requests) if self._stage.kind == "canary" else 0
        if self._stage.kind == "canary":  # what the champion answered for a failed challenger is no draw of its own
            known = challenger.requests.known(theirs["request"].to_numpy())
            theirs = theirs.filter(pl.Series(~known, dtype=pl.Boolean))
        assigned = (
            len(champion.callers) - champion.callers.shared(challenger.callers),
            len(challenger.callers),
        )
        return StageRows(
            champion=self._arm(champion, theirs, slow[0], spared),
            challenger=self._arm(challenger, challenger.rows, slow[1], 0),
            assigned=assigned,
            paired=self._paired(),
            fused=len(self._fused),
            complete_until=now,
            files=self._read,
        )

    def _arm(self, arm: _Arm, rows: pl.DataFrame, slow: int, spared: int) -> ArmEvidence:
        labelled = rows.join(self._labels, on="about").sort("about")
        outcomes = Counter(arm.outcomes)
        outcomes["ok"] -= spared
        return ArmEvidence(
            requests=len(arm.requests) - spared,
            outcomes={name: count for name, count in sorted(outcomes.items()) if count > 0},
            slow=slow,
            outputs=tuple(arm.outputs),
            labels=labelled["label"].to_numpy(),
            answers=self._matrix(labelled[OUTPUTS]),
        )

    def _paired(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mine = self._arms[self._stage.kind].rows.select("about", mine=OUTPUTS)
        both = self._arms["champion"].rows.join(mine, on="about").join(self._labels, on="about").sort("about")
        return both["label"].to_numpy(), self._matrix(both[OUTPUTS]), self._matrix(both["mine"])

    def _matrix(self, column: pl.Series) -> np.ndarray:
        return column.explode().drop_nulls().to_numpy().astype(np.float64).reshape(column.len(), self._yardstick.width)


def _keys(frame: pl.DataFrame) -> list[pl.Series]:
    """Hashes of request, and of request and row."""
    return [
        frame.select("request_id").hash_rows().alias("request"),
        frame.select("request_id", "row").hash_rows().alias("about"),
    ]


def _replica(key: str) -> pl.Expr:
    """The spool that wrote a file: its name begins with the replica's start and a random part."""
    return pl.lit("-".join(PurePosixPath(key).name.split("-")[:2])).alias("replica")


_ROWS = {"about": pl.UInt64(), "request": pl.UInt64(), OUTPUTS: pl.List(pl.Float64())}
_TRUTH = {"about": pl.UInt64(), "label": pl.Float64(), "received": pl.Datetime("us", "UTC")}
