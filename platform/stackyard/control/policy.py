"""Whether a model is retrained now, on which rows, and if not, what holds it and until when.

A pure function of the spec, of what is seen and of the time. It depends on how the world is and never on how often
or in which order it was told, so a storm of triggers and a quiet one give the same answer.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stackyard.control.timetable import day_of, is_quiet, newest_firing, next_firing, next_midnight, quiet_until
from stackyard.spec.loop import RetrainingSpec
from stackyard.spec.models import WindowSpec

GREATEST_REST = 4
"""The breaker's rest doubles with each further retraining that brought nothing, up to so many times `rest`."""
REMEMBERED = 5
"""The next retraining is expected to cost as much as the dearest of so many before it."""


@dataclass(frozen=True)
class PastRun:
    """One retraining that was started; the first model's run is none."""

    started: dt.datetime
    promoted: bool | None
    """Whether it brought a champion; None while that is open."""
    cpu_hours: float = 0.0
    gpu_hours: float = 0.0
    by_hand: bool = False
    ended: dt.datetime | None = None


@dataclass(frozen=True)
class PolicySeen:
    """Everything the decision may depend on, but for the time."""

    champion_data_end: dt.date
    """The day after the last one that the champion learnt from."""
    labelled_until: dt.date
    """The day after the last one whose truth is known."""
    data_start: dt.date
    """The first day of rows there may be."""
    metric_alarm: str | None = None
    """Why the metric is too low, or None while it is not."""
    drift_alarm: str | None = None
    shift_since: dt.date | None = None
    """The first day of the drift that still lasts."""
    new_rows: int = 0
    """Labelled rows since the champion's data end."""
    runs: Sequence[PastRun] = ()
    """Earlier retrainings of this model, in any order."""
    by_hand: str | None = None
    """Why a person asked for a retraining that has not been started yet."""
    paused: bool = False
    running: bool = False
    since: dt.datetime | None = None
    """When the first champion came: older firings of the time table count for nothing. None: its data end."""
    expected: tuple[float, float] | None = None
    """CPU-hours and GPU-hours the next run will take. None: those of the dearest of the last few."""


@dataclass(frozen=True)
class Retrain:
    """Start one retraining on the rows of `window`."""

    reason: str
    window: WindowSpec


@dataclass(frozen=True)
class Propose:
    """Tell people that a retraining is due; it starts when one of them asks for it."""

    reason: str
    window: WindowSpec


@dataclass(frozen=True)
class Hold:
    """Start nothing; `until` says when time alone would change that, None when it would not."""

    reason: str
    until: dt.datetime | None


@dataclass(frozen=True)
class _Held:
    """One thing that stands in the way; a person's wish passes those that are `soft`."""

    reason: str
    until: dt.datetime | None
    soft: bool = False


def decide(spec: RetrainingSpec, seen: PolicySeen, now: dt.datetime) -> Retrain | Propose | Hold:
    """What to do at `now` (UTC). A wish by hand needs no trigger, and passes mode, cooldown and breaker only."""
    runs = sorted(set(seen.runs), key=lambda run: run.started)
    wished = seen.by_hand is not None
    due, lacking = ([f"asked for by hand: {seen.by_hand}"], []) if wished else _triggers(spec, seen, runs, now)
    if not due or (lacking and spec.when == "all"):
        waits = f"; not yet, as `when: all` asks for: {', '.join(lacking)}" if due else f": {', '.join(lacking)}"
        return Hold(
            (" and ".join(due) if due else "nothing asks for a retraining") + waits, _next_by_time(spec, seen, now)
        )
    why = " and ".join(due)
    held = [found for found in _holds(spec, seen, runs, now) if not (wished and found.soft)]
    if held:
        untils = [found.until for found in held]
        latest = None if None in untils else max(until for until in untils if until is not None)
        return Hold(f"{why}; held, because {' and '.join(found.reason for found in held)}", latest)
    window = choose_window(spec, seen)
    if spec.mode == "propose" and not wished:
        return Propose(f"{why}; `stackyard train` starts it (retraining.mode is propose)", window)
    return Retrain(why, window)


def choose_window(spec: RetrainingSpec, seen: PolicySeen) -> WindowSpec:
    """The days a retraining learns from: they end where labels do. `labelled_until` is after `data_start`."""
    first = seen.data_start
    span = dt.timedelta(days=max(1, math.ceil(spec.window.span / 86_400)))
    newest = seen.labelled_until - min(span, seen.labelled_until - first)
    if spec.window.kind == "sliding":
        first = newest
    elif spec.window.kind == "since_shift" and seen.shift_since is not None:
        first = max(first, min(seen.shift_since, newest))
    return WindowSpec(start=first, end=seen.labelled_until)


def _triggers(
    spec: RetrainingSpec, seen: PolicySeen, runs: list[PastRun], now: dt.datetime
) -> tuple[list[str], list[str]]:
    """What asks for a retraining, and what is listened to but does not."""
    due, lacking = [], []
    for fires, told, otherwise in _listened(spec, seen, runs, now):
        (due if fires else lacking).append(told if fires else otherwise)
    return due, lacking or ([] if due else ["retraining.triggers names none"])


def _listened(
    spec: RetrainingSpec, seen: PolicySeen, runs: list[PastRun], now: dt.datetime
) -> Iterator[tuple[bool, str, str]]:
    on, end = spec.triggers, seen.champion_data_end
    if on.metric:
        yield seen.metric_alarm is not None, f"metric: {seen.metric_alarm}", "the metric holds"
    if on.drift:
        yield seen.drift_alarm is not None, f"drift: {seen.drift_alarm}", "nothing drifts"
    if on.schedule is not None:
        fired = newest_firing(on.schedule.cron, on.schedule.timezone, now)
        since = runs[-1].started if runs else seen.since or _midnight(end)
        told = f"schedule: {on.schedule.cron} ({on.schedule.timezone}) fired at {_told(fired)}"
        yield fired is not None and fired > since, told, "the schedule has not fired since the last run"
    if on.rows is not None:
        yield seen.new_rows >= on.rows, f"rows: {seen.new_rows} new ones", f"{seen.new_rows} of {on.rows} new rows"
    if on.every is not None:
        age = now - _midnight(end)
        yield age.total_seconds() >= on.every, f"age: the champion's data ends {end}", f"its data ends {end}"


def _holds(spec: RetrainingSpec, seen: PolicySeen, runs: list[PastRun], now: dt.datetime) -> Iterator[_Held]:
    if spec.mode == "off":
        yield _Held("retraining.mode is off", None, soft=True)
    if seen.paused:
        yield _Held("the loop is paused (`stackyard resume`)", None)
    if seen.running:
        yield _Held("a run is in progress, and a model has one at a time", None)
    if seen.labelled_until <= seen.data_start:
        yield _Held(f"no day since {seen.data_start} is labelled", None)
    if seen.labelled_until <= seen.champion_data_end:
        yield _Held(
            f"no day is labelled that the champion has not learnt from ({seen.champion_data_end})", None, soft=True
        )
    yield from _budget(spec, seen, runs, now)
    today = [run for run in runs if day_of(run.started, spec.timezone) == day_of(now, spec.timezone)]
    if len(today) >= spec.daily_limit:
        tomorrow = next_midnight(now, spec.timezone)
        yield _Held(f"{len(today)} were started today, the daily limit is {spec.daily_limit}", tomorrow)
    if spec.quiet_hours is not None and is_quiet(spec.quiet_hours, spec.timezone, now):
        until = quiet_until(spec.quiet_hours, spec.timezone, now)
        yield _Held(f"these are quiet hours ({spec.quiet_hours} {spec.timezone})", until)
    if runs and (rested := runs[-1].started + dt.timedelta(seconds=spec.cooldown)) > now:
        yield _Held(f"the cooldown since {_told(runs[-1].started)} lasts until {_told(rested)}", rested, soft=True)
    yield from _breaker(spec, runs, now)


def _budget(spec: RetrainingSpec, seen: PolicySeen, runs: list[PastRun], now: dt.datetime) -> Iterator[_Held]:
    """What the month has cost together with what one more run is expected to, against each limit."""
    budget, month = spec.budget, (now.astimezone(dt.UTC).year, now.astimezone(dt.UTC).month)
    gone = [run for run in runs if (run.started.astimezone(dt.UTC).year, run.started.astimezone(dt.UTC).month) == month]
    cpu, gpu = sum(run.cpu_hours for run in gone), sum(run.gpu_hours for run in gone)
    last = runs[-REMEMBERED:]
    dearest = (max((run.cpu_hours for run in last), default=0.0), max((run.gpu_hours for run in last), default=0.0))
    more_cpu, more_gpu = seen.expected or dearest
    prices = (budget.cpu_hour_price, budget.gpu_hour_price)
    money, more_money = (a * prices[0] + b * prices[1] for a, b in ((cpu, gpu), (more_cpu, more_gpu)))
    first = dt.datetime(month[0] + month[1] // 12, month[1] % 12 + 1, 1, tzinfo=dt.UTC)
    for name, limit, spent, more in (
        ("CPU-hours", budget.cpu_hours, cpu, more_cpu),
        ("GPU-hours", budget.gpu_hours, gpu, more_gpu),
        ("money", budget.money, money, more_money),
    ):
        if limit is not None and (spent + more > limit or spent >= limit):
            told = (
                f"the month's budget of {limit:g} {name} has {max(limit - spent, 0):.3g} left, a run takes {more:.3g}"
            )
            yield _Held(told, first)


def _breaker(spec: RetrainingSpec, runs: list[PastRun], now: dt.datetime) -> Iterator[_Held]:
    vain: list[PastRun] = []
    for run in reversed([run for run in runs if run.promoted is not None]):
        if run.promoted:
            break
        vain.append(run)
    if len(vain) < spec.breaker:
        return
    times = min(2 ** (len(vain) - spec.breaker), GREATEST_REST)
    until = (vain[0].ended or vain[0].started) + dt.timedelta(seconds=spec.rest * times)
    if until > now:
        told = f"the last {len(vain)} retrainings brought nothing: the breaker rests until {_told(until)}"
        yield _Held(told, until, soft=True)


def _next_by_time(spec: RetrainingSpec, seen: PolicySeen, now: dt.datetime) -> dt.datetime | None:
    """When the time table or the age fires next; None when neither is listened to, or nothing may start by itself."""
    if spec.mode == "off":
        return None
    found: list[dt.datetime] = []
    if (schedule := spec.triggers.schedule) is not None:
        following = next_firing(schedule.cron, schedule.timezone, now)
        found += [] if following is None else [following]
    if spec.triggers.every is not None:
        found.append(_midnight(seen.champion_data_end) + dt.timedelta(seconds=spec.triggers.every))
    return min((time for time in found if time > now), default=None)


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def _told(time: dt.datetime | None) -> str:
    return "never" if time is None else f"{time.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"
