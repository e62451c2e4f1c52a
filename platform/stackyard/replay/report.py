"""From a replay that was lived through to one page and one line: the figures, the story, the pictures."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stackyard.replay import charts, figures, story
from stackyard.replay.diary import Diary, Entry
from stackyard.replay.driver import Replay
from stackyard.replay.sending import quantile
from stackyard.replay.yardsticks import Yardsticks
from stackyard.spec.models import ProjectSpec

SHOWN_FAILURES = 20
_BINS = 10


@dataclass(frozen=True)
class Outcome:
    """Everything that the page shows. Figures by day and by month, of `frozen`, `loop` and `oracle`."""

    kind: str
    daily: dict[str, dict[str, float]]
    monthly: dict[str, dict[str, float]]
    rows: dict[str, int]
    """Labelled rows by month."""
    months: list[str]
    """Those that count in the means."""
    story: story.Story
    entries: list[Entry]
    failures: list[dict[str, str]]

    def mean(self, name: str) -> float | None:
        """Mean of the months' figures."""
        return figures.mean(self.monthly[name], self.months)

    def line(self, report: Path | None) -> dict[str, Any]:
        """The one JSON object that a replay ends with."""
        figure = figures.FIGURE[self.kind]
        means = {f"{name}_{figure}_mean": _rounded(self.mean(name)) for name in ("loop", "frozen", "oracle")}
        return {
            **means,
            "retrains": self.story.retrains,
            "promotions": self.story.promotions,
            "rollbacks": self.story.rollbacks,
            "failed_requests": len(self.failures),
            "requests": sum(entry.requests for entry in self.entries),
            "report": None if report is None else str(report),
            "refused": self.story.refused,
            "stopped": self.story.stopped,
            "cpu_hours": round(self.story.cpu_hours, 3),
            "days": len(self.entries),
        }


def gather(replay: Replay, yardsticks: Yardsticks) -> Outcome:
    """Derive every figure of the days that are over."""
    diary: Diary = replay.diary
    entries, kind = diary.entries(), replay.project.task.type
    days = [entry.day for entry in entries]
    told = story.read(replay.yard)
    scored = figures.answered(replay.yard, days)
    by_name = {"frozen": {}, "loop": dict(zip(scored.ids, scored.outputs, strict=True)), "oracle": {}}
    if days:
        by_name["frozen"] = yardsticks.frozen(told.champions[0][1], days)
        by_name["oracle"] = yardsticks.oracle(days)
    daily, monthly = {}, {}
    for name, answers in by_name.items():
        outputs = np.array([answers[each] for each in scored.ids], dtype=float)
        daily[name] = figures.daily(kind, scored.days, scored.labels, outputs)
        monthly[name] = figures.monthly(kind, scored.days, scored.labels, outputs)
    months = figures.whole_months(days[0], days[-1] + dt.timedelta(days=1)) if days else []
    rows = Counter(str(month) for month in scored.days.astype("datetime64[M]"))
    return Outcome(kind, daily, monthly, dict(rows), months, told, entries, diary.failures())


def drift(
    replay: Replay, yardsticks: Yardsticks, days: Sequence[dt.date]
) -> tuple[list[str], list[dt.date], np.ndarray]:
    """Features, first days of weeks, and PSI [features, weeks] against the rows that the first model learnt from."""
    first = yardsticks.first()
    bins = [_bins(series) for series in first.get_columns()]
    weeks = [days[start : start + 7] for start in range(0, len(days), 7)]
    counts = np.zeros((first.width, len(weeks)))
    for column, week in enumerate(weeks):
        frames = [yardsticks.features(day) for each in week if (day := replay.read(each)).requests]
        if not frames:
            counts[:, column] = np.nan
            continue
        frame = pl.concat(frames)
        for row, (name, edges) in enumerate(zip(first.columns, bins, strict=True)):
            counts[row, column] = figures.psi(_counted(first[name], edges), _counted(frame[name], edges))
    return first.columns, [week[0] for week in weeks], counts


def page(outcome: Outcome, project: ProjectSpec, stack: str, sample: float, heat: str) -> str:
    """The self-contained HTML page; `heat` is the SVG of the drift."""
    figure = _NAMES[figures.FIGURE[outcome.kind]]
    days = [entry.day for entry in outcome.entries]
    end = days[-1] + dt.timedelta(days=1)
    names = sorted(outcome.rows)
    pictures = {
        "days": charts.days(figure, outcome.daily, outcome.story),
        "months": charts.months(figure, outcome.monthly, names),
        "timeline": charts.timeline(
            [event for event in outcome.story.events if event.what != story.FIRST], days[0], end
        ),
        "heat": heat,
        "traffic": charts.traffic(
            days, [entry.requests for entry in outcome.entries], [_p99(entry) for entry in outcome.entries]
        ),
    }
    template = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    ).get_template("report.html")
    waited, whole = (sum(getattr(entry, name) for entry in outcome.entries) / 60 for name in ("waited", "seconds"))
    return template.render(
        model=project.name,
        stack=stack,
        start=days[0],
        end=days[-1],
        days=len(days),
        sample=sample,
        figure=figure,
        requests=sum(entry.requests for entry in outcome.entries),
        delay=_span(project.monitoring.label_delay),
        tiles=_tiles(outcome),
        charts=pictures,
        months=_months(outcome, names),
        partial=not figures.is_whole(days[0], end, outcome.months),
        events=_events(outcome),
        service=_service(outcome),
        failures=outcome.failures[:SHOWN_FAILURES],
        waited=f"The replay took {whole:.0f} minutes, {waited:.0f} of them waiting for the loop.",
    )


_NAMES = {"auc": "AUC", "accuracy": "Accuracy", "rmse": "RMSE"}


def _tiles(outcome: Outcome) -> list[dict[str, str]]:
    loop, frozen, oracle = (outcome.mean(name) for name in ("loop", "frozen", "oracle"))
    figure = _NAMES[figures.FIGURE[outcome.kind]]
    told, requests = outcome.story, sum(entry.requests for entry in outcome.entries)
    refused = f"{told.refused} refused by gates, {told.stopped} given up in a stage"
    return [
        {"value": _shown(loop), "text": f"mean monthly {figure} of the loop"},
        {"value": _signed(loop, frozen), "text": f"over frozen ({_shown(frozen)})"},
        {"value": _signed(loop, oracle), "text": f"against the oracle ({_shown(oracle)})"},
        {"value": str(told.retrains), "text": f"retrains; {refused}"},
        {"value": str(told.promotions), "text": "promotions"},
        {"value": str(told.rollbacks), "text": "rollbacks"},
        {"value": str(len(outcome.failures)), "text": f"failed of {requests:,} requests"},
        {"value": f"{told.cpu_hours:.2f}", "text": "CPU-hours of training"},
    ]


def _months(outcome: Outcome, names: Sequence[str]) -> list[dict[str, Any]]:
    def row(name: str, rows: int, values: list[float | None], *, total: bool = False) -> dict[str, Any]:
        frozen, loop, oracle = values
        better = loop is not None and frozen is not None and (loop >= frozen) == (outcome.kind != "regression")
        shown = dict(zip(("frozen", "loop", "oracle"), map(_shown, values), strict=True))
        gains = {"gain": _signed(loop, frozen), "gap": _signed(loop, oracle), "sign": "up" if better else "down"}
        return {"name": name, "rows": f"{rows:,}", "sum": total} | shown | gains

    order = ("frozen", "loop", "oracle")
    found = [row(month, outcome.rows[month], [outcome.monthly[name].get(month) for name in order]) for month in names]
    counted = sum(outcome.rows.get(month, 0) for month in outcome.months)
    text = f"mean of {len(outcome.months)} months" if len(outcome.months) != 1 else "mean of 1 month"
    return [*found, row(text, counted, [outcome.mean(name) for name in order], total=True)]


def _events(outcome: Outcome) -> list[dict[str, Any]]:
    return [
        {
            "at": f"{event.at:%Y-%m-%d %H:%M}",
            "style": "refused" if event.what == "refused" else event.lane,
            "text": f"gates {event.what}" if event.lane == "gate" else event.what,
            "run": event.run,
            "reason": event.reason,
        }
        for event in outcome.story.events
    ]


def _service(outcome: Outcome) -> str:
    total: Counter[int] = Counter()
    for entry in outcome.entries:
        total.update(entry.buckets)
    parts = [f"p{100 * q:g} {1000 * (quantile(total, q) or 0):.1f} ms" for q in (0.5, 0.9, 0.99, 0.999)]
    labels = sum(entry.labels for entry in outcome.entries)
    return f"{sum(total.values()):,} answers, {len(outcome.failures)} failures, {labels:,} truths; {', '.join(parts)}."


def _p99(entry: Entry) -> float | None:
    return quantile(Counter(entry.buckets), 0.99)


def _bins(series: pl.Series) -> np.ndarray | list[str]:
    """Edges of equally full bins of numbers, or the values of categories."""
    if series.dtype.is_numeric() or series.dtype == pl.Boolean:
        values = series.cast(pl.Float64).drop_nulls().to_numpy()
        inner = np.linspace(0, 1, _BINS + 1)[1:-1]
        return np.unique(np.quantile(values, inner)) if len(values) else np.empty(0)
    return series.cast(pl.String).drop_nulls().unique().sort().to_list()


def _counted(series: pl.Series, bins: np.ndarray | list[str]) -> np.ndarray:
    """Rows in each bin, the missing and (of categories) the unseen in bins of their own."""
    missing = series.null_count()
    if isinstance(bins, np.ndarray):
        values = series.cast(pl.Float64).drop_nulls().to_numpy()
        inside = np.bincount(np.searchsorted(bins, values, "right"), minlength=len(bins) + 1)
        return np.append(inside, missing).astype(float)
    found = Counter(series.cast(pl.String).drop_nulls().to_list())
    known = [found[name] for name in bins]
    return np.array([*known, sum(found.values()) - sum(known), missing], dtype=float)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _signed(value: float | None, base: float | None) -> str:
    return "–" if value is None or base is None else f"{value - base:+.4f}".replace("-", "−")


def _span(seconds: float) -> str:
    days = seconds / 86_400
    return f"{days:g} day{'s' if days != 1 else ''}" if days >= 1 else f"{seconds / 3600:g} hours"
