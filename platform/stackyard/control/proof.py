"""What a run brings before the gates: the held-out rows with both models' answers, and facts of its candidate."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

SLICE = "slice:"
"""What precedes the name of a slice's column in the table of held-out rows."""


@dataclass(frozen=True)
class HoldoutTable:
    """The held-out rows: truth and what both models said. `candidate` and `champion` are [rows, outputs]."""

    time: np.ndarray
    """datetime64[us], UTC."""
    labels: np.ndarray
    candidate: np.ndarray
    champion: np.ndarray | None
    """None where the champion could not be asked."""
    slices: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Column to its values as text."""

    @classmethod
    def of(cls, frame: pl.DataFrame) -> HoldoutTable:
        """From the frame that a run stores: time, label, candidate, champion, and `slice:` columns."""
        asked = "champion" in frame.columns and frame["champion"].null_count() == 0 and frame.height > 0
        return cls(
            time=frame["time"].dt.convert_time_zone("UTC").dt.replace_time_zone(None).to_numpy(),
            labels=frame["label"].to_numpy(),
            candidate=_matrix(frame["candidate"]),
            champion=_matrix(frame["champion"]) if asked else None,
            slices={
                name.removeprefix(SLICE): frame[name].cast(pl.String).fill_null("(missing)").to_numpy()
                for name in frame.columns
                if name.startswith(SLICE)
            },
        )

    def rows(self, chosen: np.ndarray) -> HoldoutTable:
        """Those rows alone."""
        champion = None if self.champion is None else self.champion[chosen]
        slices = {name: values[chosen] for name, values in self.slices.items()}
        return HoldoutTable(self.time[chosen], self.labels[chosen], self.candidate[chosen], champion, slices)


@dataclass(frozen=True)
class CandidateFacts:
    """What the run tells of its candidate, besides the rows."""

    champion_data_end: dt.date | None
    """Rows before this day may have taught the champion; None: not known."""
    size: int
    """Bytes of the model."""
    seconds_per_row: float
    parity: bool | None
    """Whether the stored bundle answers its golden rows as it did when it was made; None: not tried."""
    backtest: tuple[float, ...] = ()
    """Differences of the deciding metric on earlier spans, more is better."""
    kpi: tuple[float | None, float | None] = (None, None)
    """The project's own figure, of candidate and champion."""
    refit: Mapping[str, float] = field(default_factory=dict)
    """Figures of the refitted bundle on the held-out rows, which it has seen: a floor, no proof."""
    problem: str | None = None
    """Why the champion could not be asked, or None."""
    subject: Mapping[str, Any] = field(default_factory=dict)
    """What is judged: digests of run, trial, bundle and champion."""

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> CandidateFacts:
        """From a run's result.json. Raises KeyError for one without a hold-out."""
        facts = result["candidate"]
        end = facts["champion_data_end"]
        names = ("run_id", "trial", "bundle", "champion", "recipe", "snapshot", "window", "holdout")
        return cls(
            champion_data_end=None if end is None else dt.date.fromisoformat(end),
            size=facts["size"],
            seconds_per_row=facts["seconds_per_row"],
            parity=facts["parity"],
            backtest=tuple(span["difference"] for span in facts["backtest"] if span["difference"] is not None),
            kpi=(facts["kpi"]["candidate"], facts["kpi"]["champion"]),
            refit=facts["refit"],
            problem=facts["champion_problem"],
            subject={name: result.get(name, facts.get(name)) for name in names},
        )


def _matrix(column: pl.Series) -> np.ndarray:
    """Lists of one length as float64 [rows, outputs]."""
    if column.len() == 0:
        return np.empty((0, 1))
    return column.explode().to_numpy().astype(np.float64).reshape(column.len(), -1)
