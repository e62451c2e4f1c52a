"""The pictures of a replay's report, as SVG text that needs nothing from anywhere."""

from __future__ import annotations

import datetime as dt
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, MonthLocator, date2num
from matplotlib.figure import Figure

from stackyard.replay.story import Event, Story

COLOURS = {"loop": "#1d4ed8", "frozen": "#94a3b8", "oracle": "#059669"}
STAGES = {"shadow": "#c7d2fe", "canary": "#fde68a", "watch": "#e2e8f0"}
LANES = ("retrain", "gate", "stage", "promotion", "stop", "rollback")
_LANE_NAMES = ("retrain", "gate", "stage", "promoted", "given up", "rolled back")
_MARKS = {
    "retrain": ("o", "#1d4ed8"),
    "gate": ("s", "#059669"),
    "stage": (">", "#a16207"),
    "promotion": ("^", "#059669"),
    "stop": ("X", "#b45309"),
    "rollback": ("v", "#dc2626"),
}
SMOOTH = 7
"""Days of the moving mean."""
FEW_WEEKS = 8
"""So many are named each; of more, the first of each month."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "stackyard",
    "font.family": ["sans-serif"],
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#64748b",
    "axes.labelcolor": "#334155",
    "xtick.color": "#475569",
    "ytick.color": "#475569",
    "axes.grid": True,
    "grid.color": "#e2e8f0",
    "axes.axisbelow": True,
}

Daily = Mapping[str, Mapping[str, float]]
"""`loop`, `frozen`, `oracle` to day or month to figure."""


def days(figure: str, daily: Daily, story: Story) -> str:
    """The figure by day, smoothed, over the stages of the rollouts."""
    drawing, axes = _paper(3.4)
    shown: set[str] = set()
    last = max((dt.date.fromisoformat(day) for each in daily.values() for day in each), default=None)
    for start, end, stage in story.spans:
        to = end or (start if last is None else dt.datetime.combine(last, dt.time(), dt.UTC))
        axes.axvspan(_number(start), _number(to), color=STAGES[stage], lw=0, label=None if stage in shown else stage)
        shown.add(stage)
    for name, by_day in daily.items():
        if not (known := sorted(by_day)):
            continue  # no truth has arrived yet
        values = np.array([by_day[day] for day in known])
        places = [_day(day) for day in known]
        width = 2.2 if name == "loop" else 1.4
        axes.plot(places, _smoothed(values), color=COLOURS[name], lw=width, ls="--" if name == "oracle" else "-",
                  label=name, zorder=4 if name == "loop" else 3)  # fmt: skip
    for at, _bundle in story.champions[1:]:
        axes.axvline(_number(at), color="#475569", lw=0.8, ls=":")
    axes.set_ylabel(f"{figure}, {SMOOTH}-day mean")
    _dated(axes)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(ncols=5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.16))
    return _svg(drawing)


def months(figure: str, monthly: Daily, names: Sequence[str]) -> str:
    """The figure by month, side by side."""
    drawing, axes = _paper(2.8)
    width = 0.8 / max(1, len(monthly))
    for place, (name, by_month) in enumerate(monthly.items()):
        values = [by_month.get(month, np.nan) for month in names]
        axes.bar(np.arange(len(names)) + (place - 1) * width, values, width * 0.92, color=COLOURS[name], label=name)
    every = [value for each in monthly.values() for value in each.values()]
    if every:
        low, high = min(every), max(every)
        axes.set_ylim(max(0.0, low - 0.25 * (high - low) - 0.01), high + 0.1 * (high - low) + 0.01)
    axes.set_xticks(np.arange(len(names)), names)
    axes.set_ylabel(figure)
    axes.grid(visible=False, axis="x")
    axes.set_xlim(-0.5, max(len(names), 4) - 0.5)  # few months are not blown up
    if names:
        axes.legend(ncols=3, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.2))
    return _svg(drawing)


def timeline(events: Sequence[Event], start: dt.date, end: dt.date) -> str:
    """What the loop did, one lane for each kind of thing."""
    drawing, axes = _paper(2.6)
    for event in events:
        mark, colour = _MARKS[event.lane]
        if event.lane == "gate" and event.what != "passed":
            mark, colour = "X", "#dc2626"
        place = len(LANES) - LANES.index(event.lane)
        axes.plot([_number(event.at)], [place], mark, color=colour, ms=7, clip_on=False)
    axes.set_yticks(range(len(LANES), 0, -1), _LANE_NAMES)
    axes.set_ylim(0.5, len(LANES) + 0.5)
    axes.set_xlim(_day(start.isoformat()), _day(end.isoformat()))
    _dated(axes)
    return _svg(drawing)


def heat(names: Sequence[str], weeks: Sequence[dt.date], psi: np.ndarray) -> str:
    """Drift by feature and week: PSI [features, weeks] against what the first model learnt from."""
    drawing, axes = _paper(0.9 + 0.26 * max(1, len(names)))
    edges = [np.arange(size + 1) - 0.5 for size in (len(weeks), len(names))]
    image = axes.pcolormesh(*edges, psi, cmap="OrRd", vmin=0, vmax=1.0)
    axes.invert_yaxis()
    axes.set_yticks(range(len(names)), names)
    if len(weeks) > FEW_WEEKS:
        first = [n for n, week in enumerate(weeks) if n == 0 or week.month != weeks[n - 1].month]
        axes.set_xticks(first, [f"{weeks[n]:%b}" for n in first])
    else:
        axes.set_xticks(range(len(weeks)), [f"from {week:%b} {week.day}" for week in weeks])
    axes.grid(visible=False)
    bar = drawing.colorbar(image, ax=axes, pad=0.01, extend="max")
    bar.set_label("PSI")
    return _svg(drawing)


def traffic(at: Sequence[dt.date], requests: Sequence[int], p99: Sequence[float | None]) -> str:
    """Requests and the 99th percentile of their time, by day."""
    drawing, axes = _paper(2.3)
    places = [_day(day.isoformat()) for day in at]
    axes.bar(places, requests, 1.0, color="#cbd5e1", label="requests")
    axes.set_ylabel("requests a day")
    axes.grid(visible=False, axis="x")
    other = axes.twinx()
    other.plot(places, [np.nan if value is None else 1000 * value for value in p99], color="#b45309", lw=1.3)
    other.set_ylabel("p99, ms", color="#b45309")
    other.set_ylim(bottom=0)
    for side in ("top", "left", "bottom"):
        other.spines[side].set_visible(False)
    other.spines["right"].set_color("#b45309")
    other.tick_params(axis="y", colors="#b45309")
    other.grid(visible=False)
    if places:
        axes.set_xlim(places[0] - 0.5, places[-1] + 0.5)
    _dated(axes)
    return _svg(drawing)


def _paper(height: float) -> tuple[Figure, Axes]:
    with mpl.rc_context(_STYLE):
        drawing = Figure(figsize=(10.4, height), layout="constrained")
        return drawing, drawing.subplots()


def _svg(drawing: Figure) -> str:
    out = io.StringIO()
    with mpl.rc_context(_STYLE):
        drawing.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = out.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)


def _dated(axes: Axes) -> None:
    left, right = axes.get_xlim()
    locator = MonthLocator() if right - left > 70 else AutoDateLocator(minticks=3, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _number(at: dt.datetime) -> float:
    return float(date2num(at.astimezone(dt.UTC).replace(tzinfo=None)))


def _day(text: str) -> float:
    return float(date2num(dt.datetime.fromisoformat(text)))


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Mean of up to SMOOTH days around each."""
    ones = np.ones(min(SMOOTH, max(1, len(values))))
    return np.convolve(values, ones, "same") / np.convolve(np.ones(len(values)), ones, "same")
