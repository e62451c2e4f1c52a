"""One day's rows as summaries, batch by batch: a bundle and arm each, in the bins of one yardstick."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from stackyard.data import day_facts
from stackyard.data.day_facts import DayFacts
from stackyard.data.errors import DataError
from stackyard.monitoring import join
from stackyard.monitoring.days import DaySummary, summarize
from stackyard.monitoring.join import Joined
from stackyard.monitoring.logs import OUTPUTS
from stackyard.monitoring.yardstick import OWN_COLUMNS, Yardstick
from stackyard.spec.models import MonitoringSpec

KPI_ROWS = 200_000
"""Labelled rows that the project's own function is handed at most: a fixed sample of more."""
FACT_ROWS = 200_000
"""Rows whose columns are looked at for quality: a fixed sample of more."""
ANSWERS = ("champion", "canary")
"""Arms whose rows are what callers sent and were told; a shadow sees the same rows again."""


class Summing:
    """Sums up one day, batch by batch."""

    def __init__(self, model: str, day: dt.date, yardstick: Yardstick, spec: MonitoringSpec, joined: Joined) -> None:
        self._model, self._day, self._yardstick, self._spec, self._joined = model, day, yardstick, spec, joined
        self._slices = [name for name in spec.slices if name in yardstick.columns and name not in OWN_COLUMNS]
        self._groups: dict[tuple[str, str], _Group] = {}
        self.troubles: dict[str, str] = {}
        self._of_labelled = KPI_ROWS / max(joined.keep["label"].count(), 1)
        self._of_all = FACT_ROWS / max(joined.keep.height, 1)
        self._shown: list[pl.DataFrame] = []

    def add(self, batch: pl.DataFrame) -> None:
        """Rows of `join.batches`."""
        for (bundle, arm), part in batch.group_by("bundle", "arm", maintain_order=True):
            self._add(str(bundle), str(arm), part)

    def summaries(self) -> tuple[DaySummary, ...]:
        """The champion's first, then by arm and bundle."""
        bundle = self._yardstick.bundle
        if not any(arm == "champion" for _, arm in self._groups):
            nothing = join.nothing(self._yardstick.columns)
            self._add(bundle, "champion", nothing)
        order = sorted(self._groups, key=lambda key: (key[1] != "champion", key[1], key[0]))
        made = [self._whole(key, first=place == 0) for place, key in enumerate(order)]
        if "features" in self.troubles:  # of some rows only: a part would look like a drift
            made = [summary.model_copy(update={"features": {}}) for summary in made]
        return tuple(made)

    def facts(self) -> DayFacts:
        """What the rules about quality look at: the rows that callers sent, after `summaries`."""
        answered = [key for key in self._groups if key[1] in ANSWERS]
        hashes = np.concatenate([part for key in answered for part in self._groups[key].hashes])
        rows = [summary for key in answered if (summary := self._groups[key].summary) is not None]
        counts = self._joined.counts
        found = day_facts.facts(
            self._day,
            pl.concat(self._shown),
            self._yardstick.watched,
            self._yardstick.task,
            self._yardstick.reference,
            label_conflicts=counts.conflicts,
            wrong_labels=counts.wrong,
            unknown_labels=counts.unknown,
        )
        whole = {
            "rows": len(hashes),
            "duplicates": len(hashes) - len(np.unique(hashes)),
            "labelled": sum(summary.labelled for summary in rows),
        }
        return found.model_copy(update=whole)

    def _add(self, bundle: str, arm: str, part: pl.DataFrame) -> None:
        group = self._groups.setdefault((bundle, arm), _Group())
        group.outcomes.update(dict(part["outcome"].value_counts().rows()))
        sound = part.filter((pl.col("outcome") == "ok") & (pl.col(OUTPUTS).list.len() == self._yardstick.width))
        inputs = sound.select(pl.col(join.input_name(name)).alias(name) for name in self._yardstick.columns)
        watched = inputs.select(name for name in inputs.columns if name not in OWN_COLUMNS)
        frame = watched.with_columns(sound[OUTPUTS], sound["label"])
        newest = sound.filter(pl.col("label").is_not_null())["received"].max()
        summary = summarize(
            self._yardstick.reference,
            self._yardstick.task,
            frame,
            self._features(inputs),
            self._slices,
            model=self._model,
            day=self._day,
            bundle=bundle,
            arm=arm,
            requests=int((part["row"] == 0).sum()),
            newest_label=newest.isoformat() if isinstance(newest, dt.datetime) else None,
        )
        group.summary = summary if group.summary is None else group.summary + summary
        group.hashes.append(inputs.hash_rows().to_numpy() if inputs.width else np.empty(0, np.uint64))
        ids = sound.select("request_id", "row").hash_rows()
        if self._spec.kpi is not None:
            group.labelled.append(self._labelled(frame, ids))
        if arm in ANSWERS:
            self._shown.append(frame.filter(_among(ids, self._of_all)))

    def _features(self, inputs: pl.DataFrame) -> pl.DataFrame | None:
        if "features" in self.troubles or inputs.is_empty():
            return None
        try:
            return self._yardstick.features(inputs)
        except DataError as error:
            self.troubles["features"] = str(error)
            return None

    def _whole(self, key: tuple[str, str], *, first: bool) -> DaySummary:
        """The group's summary with what needs all of its rows; the day's counts of labels are told with the first."""
        group, counts = self._groups[key], self._joined.counts
        assert group.summary is not None
        hashes = np.concatenate(group.hashes)
        known: dict[str, Any] = {
            "duplicates": len(hashes) - len(np.unique(hashes)),
            "outcomes": dict(sorted(group.outcomes.items())),
            "kpi": self._kpi(group.labelled),
        }
        if first:
            known |= {
                "label_conflicts": counts.conflicts,
                "unknown_labels": counts.unknown,
                "wrong_labels": counts.wrong,
            }
        return group.summary.model_copy(update=known)

    def _labelled(self, frame: pl.DataFrame, ids: pl.Series) -> pl.DataFrame:
        """The rows for the project's own function."""
        output = pl.col(OUTPUTS).list.first() if self._yardstick.width == 1 else pl.col(OUTPUTS)
        chosen = frame["label"].is_not_null() & _among(ids, self._of_labelled)
        return frame.filter(chosen).with_columns(output.alias("output")).drop(OUTPUTS)

    def _kpi(self, parts: Sequence[pl.DataFrame]) -> float | None:
        rows = pl.concat(parts) if parts else pl.DataFrame()
        if self._spec.kpi is None or rows.is_empty():
            return None
        try:
            found = float(self._yardstick.function(self._spec.kpi)(rows))
        except Exception as error:  # noqa: BLE001 - the function is the user's
            self.troubles["kpi"] = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"
            return None
        if not np.isfinite(found):
            self.troubles["kpi"] = f"it gave {found}"
            return None
        return found


def _among(ids: pl.Series, share: float) -> pl.Series:
    """Which rows belong to a fixed sample of about `share` of all; every one from 1 on."""
    return ids < int(share * 2**64) if share < 1 else pl.repeat(value=True, n=len(ids), eager=True)


@dataclass
class _Group:
    """The rows of one bundle and arm, so far."""

    summary: DaySummary | None = None
    hashes: list[np.ndarray] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    labelled: list[pl.DataFrame] = field(default_factory=list)
