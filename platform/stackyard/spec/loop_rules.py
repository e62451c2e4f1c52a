"""What no single field of the closed loop can promise: floors of this task's metrics, columns that are there, stages
that can end, a time table that fires.

Whether the traffic suffices is asked of the platform by `stackyard plan`, where the tests are that need it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from stackyard.spec import timetables
from stackyard.spec.findings import Finding, of_time_zone
from stackyard.spec.loop import AlertsSpec, GatesSpec, MonitoringSpec, RetrainingSpec, RolloutSpec
from stackyard.spec.metrics import METRICS
from stackyard.spec.models import DataSpec, EnvironmentSpec, TaskSpec
from stackyard.spec.problems import Keys, nearest
from stackyard.spec.units import duration_text

DAY: Final = 86_400.0


def floors_are_of_the_task(task: TaskSpec, monitoring: MonitoringSpec) -> Iterator[Finding]:
    yield from _floors(task, ("monitoring", "floors"), monitoring.floors)


def gate_floors_are_of_the_task(task: TaskSpec, gates: GatesSpec) -> Iterator[Finding]:
    yield from _floors(task, ("gates", "floors"), gates.floors)


def windows_hold_the_alarms(monitoring: MonitoringSpec) -> Iterator[Finding]:
    few, many = monitoring.drift.windows
    if few > many:
        rule = f"[k, n] asks for {few} of the last {many} windows"
        yield Finding("drift-windows", ("monitoring", "drift", "windows"), rule, "make k at most n")


def evidence_comes_in_whole_days(monitoring: MonitoringSpec) -> Iterator[Finding]:
    if monitoring.window % DAY or monitoring.window == 0:
        shown = duration_text(monitoring.window)
        yield Finding("whole-days", ("monitoring", "window"), "must be whole days", "write for example 7d", shown)


def a_day_at_least_is_held_out(gates: GatesSpec) -> Iterator[Finding]:
    if gates.holdout < DAY:
        shown = duration_text(gates.holdout)
        yield Finding("holdout-day", ("gates", "holdout"), "must be at least 1d", "write for example 14d", shown)


def watched_columns_are_known(data: DataSpec, monitoring: MonitoringSpec) -> Iterator[Finding]:
    yield from _columns(data, ("monitoring", "slices"), monitoring.slices)


def key_is_a_known_column(data: DataSpec, rollout: RolloutSpec) -> Iterator[Finding]:
    if rollout.key is not None:
        yield from _column(data, ("rollout", "key"), rollout.key)


def words_are_listed_once(monitoring: MonitoringSpec) -> Iterator[Finding]:
    for keys, words in (
        (("monitoring", "slices"), monitoring.slices),
        (("monitoring", "drift", "ignore"), monitoring.drift.ignore),
    ):
        for index, word in enumerate(words):
            if word in words[:index]:
                yield Finding("listed-twice", (*keys, index), "is listed twice", "keep one", word)


def times_are_of_this_world(retraining: RetrainingSpec) -> Iterator[Finding]:
    yield from of_time_zone(("retraining", "timezone"), retraining.timezone)
    schedule, keys = retraining.triggers.schedule, ("retraining", "triggers", "schedule")
    if schedule is not None:
        yield from of_time_zone((*keys, "timezone"), schedule.timezone)
        if refusal := timetables.refusal(schedule.cron):
            yield Finding("cron", (*keys, "cron"), refusal, "write for example 0 4 * * MON", schedule.cron)
    if retraining.quiet_hours is not None:
        first, _, last = retraining.quiet_hours.partition("-")
        if first == last:
            rule = "begins and ends at the same minute"
            remedy = "write a span, such as 22:00-06:00, or leave it out"
            yield Finding("quiet-hours", ("retraining", "quiet_hours"), rule, remedy, retraining.quiet_hours)


def a_shift_is_seen_by_drift(retraining: RetrainingSpec) -> Iterator[Finding]:
    if retraining.window.kind == "since_shift" and not retraining.triggers.drift:
        rule = "needs retraining.triggers.drift, which sees the shift"
        yield Finding("shift-unseen", ("retraining", "window", "kind"), rule, "write sliding, or let drift trigger")


def windows_are_not_empty(retraining: RetrainingSpec) -> Iterator[Finding]:
    if retraining.window.kind != "all" and retraining.window.span < DAY:
        shown = duration_text(retraining.window.span)
        yield Finding("window-span", ("retraining", "window", "span"), "must be at least 1d", "write 90d", shown)


def a_budget_of_money_has_prices(retraining: RetrainingSpec) -> Iterator[Finding]:
    budget = retraining.budget
    if budget.money is not None and not (budget.gpu_hour_price or budget.cpu_hour_price):
        rule = "is a limit that nothing counts towards: no price is given"
        remedy = "write cpu_hour_price or gpu_hour_price, or leave it out"
        yield Finding("budget-price", ("retraining", "budget", "money"), rule, remedy, budget.money)


def stages_can_pass(rollout: RolloutSpec) -> Iterator[Finding]:
    """Each stage has time, shadows come first, and shares of canaries do not fall."""
    share, canary = 0.0, False
    for index, stage in enumerate(rollout.stages):
        keys = ("rollout", "stages", index)
        if stage.time > stage.deadline:
            rule = f"is longer than the stage's deadline, {duration_text(stage.deadline)}"
            shown = duration_text(stage.time)
            yield Finding(
                "stage-time", (*keys, "time"), rule, "shorten it, or raise deadline", shown, None, (*keys, "deadline")
            )
        if stage.kind == "shadow":
            if canary:
                rule = "is a shadow after a canary, whose users have met the challenger already"
                yield Finding("stage-order", (*keys, "kind"), rule, "write shadows first", stage.kind)
            continue
        if stage.share < share:
            rule = f"is less than the share of the canary before, {share:g}"
            yield Finding("stage-shares", (*keys, "share"), rule, "let shares grow", stage.share)
        share, canary = stage.share, True


def challengers_have_time(rollout: RolloutSpec) -> Iterator[Finding]:
    if rollout.timeout == 0:
        yield Finding("no-time", ("rollout", "timeout"), "leaves no time", "write for example 250ms")


def a_secret_is_one_destination(alerts: AlertsSpec) -> Iterator[Finding]:
    """A webhook's secret holds a URL and a key, an owner's an Apprise URL: none can be both."""
    webhooks = {secret: name for name, secret in alerts.webhooks.items()}
    for kind, secrets in alerts.owners.items():
        for index, secret in enumerate(secrets):
            keys = ("alerts", "owners", kind, index)
            if secret in webhooks:
                rule = f"is the secret of the webhook {webhooks[secret]}, too, which holds something else"
                yield Finding("alert-secret", keys, rule, "give each a secret of its own", secret)
            elif secret in secrets[:index]:
                yield Finding("listed-twice", keys, "is listed twice", "keep one", secret)


def of_environment(environment: EnvironmentSpec) -> Iterator[Finding]:
    """What is wrong with an environment as a whole: signatures that nobody could give, one person who counts twice."""
    approvals, keys = environment.approvals, ("approvals", "required")
    if approvals.required > len(approvals.approvers):
        rule = f"is more than there are approvers, {len(approvals.approvers)}"
        yield Finding("approvals", keys, rule, "name more approvers, or ask for fewer", approvals.required)
    owner: dict[str, str] = {}
    for name, key in approvals.approvers.items():
        if key in owner:
            rule = f"is the key of {owner[key]}, too"
            yield Finding("approver-key", ("approvals", "approvers", name), rule, "give each a key of their own")
        owner.setdefault(key, name)


def _floors(task: TaskSpec, keys: Keys, floors: dict[str, Any]) -> Iterator[Finding]:
    known = METRICS[task.type]
    for name in floors:
        if name not in known:
            rule, remedy = f"is not a metric of a {task.type} task", f"write one of {', '.join(known)}"
            yield Finding("floor-metric", (*keys, name), rule, remedy, None, nearest(name, known))


def _columns(data: DataSpec, keys: Keys, names: tuple[str, ...]) -> Iterator[Finding]:
    for index, name in enumerate(names):
        yield from _column(data, (*keys, index), name)


def _column(data: DataSpec, keys: Keys, name: str) -> Iterator[Finding]:
    column = data.columns.get(name)
    if column is None:
        near = nearest(name, data.columns)
        yield Finding("loop-column", keys, "is not a column of data", "name one of data.columns", name, near)
    elif column.known != "before":
        yield Finding("loop-column-known", keys, "is known only after the prediction", "name a before column", name)


ALL: Final[tuple[Callable[..., Iterator[Finding]], ...]] = (
    floors_are_of_the_task,
    gate_floors_are_of_the_task,
    windows_hold_the_alarms,
    evidence_comes_in_whole_days,
    a_day_at_least_is_held_out,
    watched_columns_are_known,
    key_is_a_known_column,
    words_are_listed_once,
    times_are_of_this_world,
    a_shift_is_seen_by_drift,
    windows_are_not_empty,
    a_budget_of_money_has_prices,
    stages_can_pass,
    challengers_have_time,
    a_secret_is_one_destination,
)
