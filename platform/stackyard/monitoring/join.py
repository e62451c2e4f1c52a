"""Predictions of a day with the truth about them, each row once, however late, double or odd what arrived was.

Two passes over the day's files, so that a million rows fit into a few hundred MB: the first keeps 40 bytes a row and
decides which row and which label stands; the second hands out whole rows in batches. The order of files, and of rows
in them, changes nothing. Nothing that was received after `now` exists.

One row per (request_id, row, arm): the newest, which is the answer that the caller got. One label per
(request_id, row): the newest valid one. Keys are compared by 64-bit hashes (two of ten million rows share one with a
chance below 1 in 100,000).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from stackyard.data.requests import DTYPES
from stackyard.monitoring.logs import HEAD, OUTPUTS, Files, days_between, digest_of_keys
from stackyard.spec.models import ColumnSpec, TaskSpec

LATE_DAYS = 7
"""Days beyond the label delay in which labels that come late still reach the day they are about."""
BATCH_ROWS = 100_000
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Listing:
    """The files that a day's evidence is made of."""

    day: dt.date
    predictions: tuple[str, ...]
    labels: tuple[str, ...]
    """Those that arrived on `day` and on the days after it."""
    arrived: tuple[str, ...]
    """Those of `labels` that arrived on `day` itself; they may be about days before it."""
    before: tuple[str, ...]
    """Files of predictions of the days before that labels of `arrived` may be about, the newest day first."""

    @property
    def digest(self) -> str:
        """Equal listings mean equal evidence."""
        return digest_of_keys((self.predictions, self.labels, self.before))


@dataclass(frozen=True)
class Counts:
    """What was odd about a day."""

    duplicates: int = 0
    """Rows beyond the first of their (request_id, row, arm)."""
    conflicts: int = 0
    """Valid labels that a newer one of another value replaced."""
    repeated: int = 0
    """Labels that say again what is known."""
    wrong: int = 0
    """Labels that the task cannot mean."""
    late: int = 0
    """Rows whose label came after the label delay."""
    unknown: int = 0
    """Labels that arrived on the day and are about no prediction of it or of the days before."""


@dataclass(frozen=True)
class Joined:
    """The rows of a day. `keep` has one line per row that stands: file, place, key, label, received."""

    listing: Listing
    counts: Counts
    keep: pl.DataFrame
    newest: dt.datetime | None
    """The newest time among rows and labels; None when there are none."""
    cut: bool
    """Whether rows or labels were left out because they lie after `now`."""

    @property
    def digest(self) -> str:
        """Equal only for equal rows with equal labels; labels of other days do not change it."""
        about = self.keep.select("key", "label", "received").sort("key")
        hasher = hashlib.sha256(f"{digest_of_keys((self.listing.predictions,))} {self.counts}".encode())
        hasher.update(about["key"].to_numpy().tobytes())
        hasher.update(about["label"].fill_null(math.nan).to_numpy().tobytes())
        hasher.update(about["received"].dt.epoch("us").fill_null(0).to_numpy().tobytes())
        return hasher.hexdigest()


def listing(files: Files, day: dt.date, delay: float, now: dt.datetime) -> Listing:
    """The files of `day` as they are; `delay` is the label delay in seconds."""
    span = dt.timedelta(days=math.ceil(delay / 86_400) + LATE_DAYS)
    arrivals = list(days_between(day, min(day + span, now.astimezone(dt.UTC).date())))
    by_day = {arrival: files.labels(arrival) for arrival in arrivals}
    arrived = by_day.get(day, ())
    past = list(days_between(day - span, day - _DAY))[::-1] if arrived else []
    return Listing(
        day=day,
        predictions=files.predictions(day),
        labels=tuple(key for keys in by_day.values() for key in keys),
        arrived=arrived,
        before=tuple(key for earlier in past for key in files.predictions(earlier)),
    )


def join(files: Files, found: Listing, task: TaskSpec, delay: float, now: dt.datetime) -> Joined:
    """Decide which rows and which labels stand. Memory: about 100 bytes for each row of the day."""
    table, cut_rows = _rows(files, found, now)
    kept = table.sort("key", "time", "tie", descending=[False, True, True]).unique("key", keep="first")
    about, cut_labels = _labels(files, found, kept["about"], now)
    sound = about.filter(valid(task))
    newest = sound.sort("about", "received", "label", descending=[False, True, True]).unique("about", keep="first")
    whole = kept.join(newest, on="about", how="left").sort("file", "place")
    replaced = sound.join(newest.select("about", stands="label"), on="about")
    differ = int((replaced["label"] != replaced["stands"]).sum())
    known = pl.col("time") + pl.duration(microseconds=round(delay * 1e6))
    times = [time for time in (whole["time"].max(), newest["received"].max()) if isinstance(time, dt.datetime)]
    counts = Counts(
        duplicates=table.height - kept.height,
        conflicts=differ,
        repeated=sound.height - newest.height - differ,
        wrong=about.height - sound.height,
        late=whole.select((pl.col("received") > known).sum()).item() or 0,
        unknown=_unknown(files, found, kept["about"], now),
    )
    keep = whole.select("file", "place", "key", "label", "received")
    return Joined(found, counts, keep, max(times, default=None), cut=cut_rows or cut_labels)


def batches(files: Files, joined: Joined, columns: Mapping[str, ColumnSpec]) -> Iterator[pl.DataFrame]:
    """The rows that stand, at most BATCH_ROWS at once: HEAD, the named inputs as `input:<name>`, outputs, label,
    received (both null where no label is known). In the order of request id, row and arm within a batch."""
    waiting: list[pl.DataFrame] = []
    size = 0
    for (number,), places in joined.keep.group_by("file", maintain_order=True):
        for frame in _slices(_whole(files, joined.listing.predictions[int(number)], places, columns)):  # type: ignore[call-overload]
            if size + frame.height > BATCH_ROWS:
                yield _ordered(waiting)
                waiting, size = [], 0
            waiting.append(frame)
            size += frame.height
    if waiting:
        yield _ordered(waiting)


def nothing(columns: Mapping[str, ColumnSpec]) -> pl.DataFrame:
    """A batch without rows."""
    inputs = {input_name(name): DTYPES[spec.type] for name, spec in columns.items()}
    return pl.DataFrame(
        schema={**HEAD, OUTPUTS: pl.List(pl.Float64()), **inputs, "label": pl.Float64(), "received": _TIME}
    )


def input_name(column: str) -> str:
    """How a batch calls a named input, which may share its name with a column of the log."""
    return f"input:{column}"


def _rows(files: Files, found: Listing, now: dt.datetime) -> tuple[pl.DataFrame, bool]:
    begin = dt.datetime.combine(found.day, dt.time(), dt.UTC)
    parts, cut = [], False
    for number, key in enumerate(found.predictions):
        frame = files.rows(key, ["request_id", "row", "arm", "time", "bundle", "outcome", "seconds", OUTPUTS])
        frame = frame.select(
            pl.lit(number, pl.UInt32).alias("file"),
            pl.int_range(pl.len(), dtype=pl.UInt32).alias("place"),
            frame.select("request_id", "row", "arm").hash_rows().alias("key"),
            frame.select("request_id", "row").hash_rows().alias("about"),
            frame.select("bundle", "outcome", "seconds", OUTPUTS).hash_rows().alias("tie"),
            "time",
        )
        sound = frame.filter(pl.col("time").is_between(begin, begin + _DAY, closed="left"))
        parts.append(sound.filter(pl.col("time") <= now))
        cut |= parts[-1].height < sound.height
    return pl.concat([pl.DataFrame(schema=_TABLE), *parts]), cut


def _labels(files: Files, found: Listing, about: pl.Series, now: dt.datetime) -> tuple[pl.DataFrame, bool]:
    """Labels about the rows `about`, those the task cannot mean included."""
    wanted = about.unique().to_frame()
    parts, cut = [], False
    for key in found.labels:
        mine = hashed(files.labelled(key)).join(wanted, on="about", how="semi")
        parts.append(mine.filter(pl.col("received") <= now))
        cut |= mine.select((pl.col("received") > now).any()).item()
    return pl.concat([pl.DataFrame(schema=_TRUTH), *parts]), cut


def _unknown(files: Files, found: Listing, about: pl.Series, now: dt.datetime) -> int:
    parts = [hashed(files.labelled(key)).filter(pl.col("received") <= now) for key in found.arrived]
    left = pl.concat([pl.DataFrame(schema=_TRUTH), *parts]).join(about.unique().to_frame(), on="about", how="anti")
    for key in found.before:
        if left.is_empty():
            break
        ids = files.rows(key, ["request_id", "row"]).hash_rows().alias("about").to_frame()
        left = left.join(ids, on="about", how="anti")
    return left.height


def hashed(labels: pl.DataFrame) -> pl.DataFrame:
    """about, label, received; a label without a time of arrival never arrived."""
    hashes = labels.select("request_id", "row").hash_rows().alias("about")
    return labels.select(hashes, "label", "received").filter(pl.col("received").is_not_null())


def valid(task: TaskSpec) -> pl.Expr:
    """Whether a `label` is one that the task can mean."""
    label = pl.col("label")
    if task.type == "regression":
        return label.is_finite().fill_null(value=False)
    classes = 2 if task.type == "binary" else len(task.classes or ())
    return label.is_in([float(place) for place in range(classes)]).fill_null(value=False)


def _whole(files: Files, key: str, places: pl.DataFrame, columns: Mapping[str, ColumnSpec]) -> pl.DataFrame:
    rows = files.rows(key, [*HEAD, OUTPUTS])
    inputs = files.inputs(key, columns)
    if inputs is not None:
        rows = rows.hstack(inputs.rename({name: input_name(name) for name in columns}))
    return rows[places["place"]].hstack(places.select("label", "received"))


def _slices(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    yield from frame.iter_slices(BATCH_ROWS)


def _ordered(parts: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(parts).sort("request_id", "row", "arm")


_TIME = pl.Datetime("us", "UTC")
_TABLE: dict[str, pl.DataType] = {
    "file": pl.UInt32(),
    "place": pl.UInt32(),
    "key": pl.UInt64(),
    "about": pl.UInt64(),
    "tie": pl.UInt64(),
    "time": _TIME,
}
_TRUTH: dict[str, pl.DataType] = {"about": pl.UInt64(), "label": pl.Float64(), "received": _TIME}
