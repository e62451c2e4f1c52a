"""What an author may write about the closed loop: what is watched, when to retrain, what to prove, how to roll out.

A share is a number from 0 to 1. A day is a day of the model's clock, UTC; evidence is gathered day by day.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stackyard.spec.base import Spec
from stackyard.spec.names import Column, Cron, FunctionPath, Hours, Name, Number, SecretName, TimeZone
from stackyard.spec.units import Duration, Size

Share = Annotated[float, Field(ge=0, le=1)]


class QualitySpec(Spec):
    """When a day of data is too bad to be believed: it is quarantined, and neither trains nor judges a model."""

    missing: Share = 0.4
    """How far a column's share of missing values may rise above the reference's, and above that of each of the last 28
    sound days. Absent: 0.4."""

    outliers: Share = 0.2
    """Share of a column's values beyond its `minimum` and `maximum`; where it has none, beyond the reference's range
    widened by half of it. Absent: 0.2."""

    unseen: Share = 0.2
    """Share of a column's values that training never saw, for categories. Absent: 0.2."""

    duplicates: Share = 0.2
    """Share of rows that repeat another row of the day in every input. Absent: 0.2."""

    volume: Share = 0.3
    """The least number of rows, as a share of the median of the last 28 sound days. Absent: 0.3."""

    labels: Share = 0.5
    """Share of labels that no model or none of the task's types could mean, or that contradict one another for the
    same request. Absent: 0.5."""

    surprise: Annotated[float, Field(gt=0)] = 0.25
    """How far the share of the label (binary) or its mean in standard deviations (regression) or any class's share may
    lie from what the champion predicts for the same rows, where labels do not follow its order; twice as far where they
    do. Labels that run against its order are never believed: they were flipped. Absent: 0.25."""

    stuck: Share = 0.5
    """The greatest rise of the share of one single value in a numeric column above the reference's and that of each of
    the last 28 sound days: a stuck sensor. Absent: 0.5."""

    shift: Annotated[float, Field(gt=0)] = 3.0
    """How far a numeric column's daily median may lie from that of the last 28 sound days, in the reference's standard
    deviations, where four fifths of its values lie beyond four fifths of each of those days: a changed unit.
    Absent: 3."""

    freshness: Duration = 172_800.0
    """How old the newest labelled day may be before its owner is told. Absent: 2d, beyond the label delay."""


class DriftSpec(Spec):
    """When a distribution has moved enough to matter."""

    metric: Literal["psi", "js", "kl"] = "psi"
    """The effect size that decides. Absent: psi."""

    threshold: Annotated[float, Field(gt=0)] = 0.2
    """The least effect, corrected for sample size, that counts as drift. Absent: 0.2."""

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """The false discovery rate over features in one window. Absent: 0.05."""

    windows: tuple[Annotated[int, Field(ge=1, le=100)], Annotated[int, Field(ge=1, le=100)]] = (2, 3)
    """[k, n]: drift is told when k of the last n windows show it. Absent: [2, 3]."""

    rows: Annotated[int, Field(ge=10)] = 500
    """The least rows of a window; fewer are not judged. Absent: 500."""

    ignore: tuple[Column, ...] = ()
    """Features that may move freely, the season's temperature for example. Absent: none."""


class MonitoringSpec(Spec):
    """What is watched while the model answers."""

    label_delay: Duration = 86_400.0
    """How long after a prediction its truth is known. Absent: 1d."""

    window: Duration = 604_800.0
    """The span a verdict looks at. Absent: 7d; whole days."""

    rows: Annotated[int, Field(ge=10)] = 500
    """The least labelled rows for a verdict; fewer are "not enough data". Absent: 500."""

    slices: tuple[Column, ...] = ()
    """Columns known before whose every value gets figures of its own. Absent: none."""

    slice_rows: Annotated[int, Field(ge=10)] = 300
    """A slice with fewer labelled rows is reported, never judged. Absent: 300."""

    floors: dict[str, Number] = {}
    """Metric to the value that the live model must keep ({accuracy: 0.8}); the interval's far end decides.
    For losses it is a ceiling. Absent: none."""

    drop: Annotated[float, Field(gt=0)] = 0.05
    """How far the deciding metric may fall below the champion's release figure. Absent: 0.05."""

    kpi: FunctionPath | None = None
    """`module:function` of the project, called with a frame of labelled rows (inputs, `output`, `label`), gives a
    number. Absent: none."""

    quality: QualitySpec = QualitySpec()
    """When a day of data is too bad. Absent: the defaults of each rule."""

    drift: DriftSpec = DriftSpec()
    """When a distribution has moved. Absent: PSI above 0.2 in two of three windows."""


class ScheduleSpec(Spec):
    """A time table."""

    cron: Cron
    """Five fields: minute, hour, day of month, month, day of week. Required."""

    timezone: TimeZone = "UTC"
    """An IANA time zone. Absent: UTC."""


class TriggersSpec(Spec):
    """What makes a model stale."""

    metric: bool = True
    """A floor of `monitoring.floors` broken, or a fall by more than `monitoring.drop`. Absent: it does."""

    drift: bool = True
    """Features, predictions or labels that drift. Absent: it does."""

    schedule: ScheduleSpec | None = None
    """A time table. Absent: none."""

    rows: Annotated[int, Field(ge=1)] | None = None
    """So many new labelled rows since the champion's data end. Absent: none."""

    every: Duration | None = None
    """So long since the champion's data end. Absent: none."""


class TrainingWindowSpec(Spec):
    """Which rows a retraining learns from; it ends where labels do."""

    kind: Literal["all", "sliding", "since_shift"] = "all"
    """All rows since `data.window.start`, the newest `span`, or those since the drift was first seen (at least
    `span`). Absent: all."""

    span: Duration = 7_776_000.0
    """Length of the window where `kind` is sliding or since_shift. Absent: 90d."""


class BudgetSpec(Spec):
    """What retraining may cost in a calendar month of the model's clock."""

    runs: Annotated[int, Field(ge=1)] | None = None
    """Runs under way at one time, over all models of one database; the others wait, oldest first. Absent: no limit
    but one a model."""

    gpu_hours: Annotated[float, Field(ge=0)] | None = None
    """GPU-hours of all runs. Absent: no limit."""

    cpu_hours: Annotated[float, Field(ge=0)] | None = None
    """CPU-hours (threads of workers) of all runs. Absent: no limit."""

    money: Annotated[float, Field(ge=0)] | None = None
    """Money, in whatever currency the prices are. Absent: no limit."""

    gpu_hour_price: Annotated[float, Field(ge=0)] = 0.0
    """Price of one GPU-hour. Absent: 0."""

    cpu_hour_price: Annotated[float, Field(ge=0)] = 0.0
    """Price of one CPU-hour. Absent: 0."""


class RetrainingSpec(Spec):
    """When a new model is made, and how freely."""

    mode: Literal["off", "propose", "auto"] = "auto"
    """`off`: only by hand. `propose`: told, and started by `stackyard train`. Absent: auto."""

    when: Literal["any", "all"] = "any"
    """Whether one trigger suffices. Absent: any; a run asked for by hand needs none."""

    triggers: TriggersSpec = TriggersSpec()
    """What makes a model stale. Absent: metric and drift."""

    window: TrainingWindowSpec = TrainingWindowSpec()
    """Which rows are learnt from. Absent: all."""

    cooldown: Duration = 604_800.0
    """The least time between the starts of two retrainings. Absent: 7d."""

    quiet_hours: Hours | None = None
    """Hours of `timezone` in which none starts, such as 22:00-06:00. Absent: none."""

    timezone: TimeZone = "UTC"
    """The time zone of quiet hours and of the day. Absent: UTC."""

    daily_limit: Annotated[int, Field(ge=1)] = 2
    """Retrainings started on one day at most. Absent: 2."""

    breaker: Annotated[int, Field(ge=1)] = 2
    """So many retrainings in a row without a promotion stop automatic ones for `rest`, then for twice that, at most
    four times. Absent: 2."""

    rest: Duration = 1_209_600.0
    """How long the breaker holds. Absent: 14d; a person's `stackyard train` passes it."""

    budget: BudgetSpec = BudgetSpec()
    """What it may cost a month. Absent: no limit."""


class GatesSpec(Spec):
    """What a candidate must prove on data held out from it, against the champion on the same rows."""

    holdout: Duration = 1_209_600.0
    """The newest span of labelled rows, held out from the candidate. Absent: 14d."""

    rows: Annotated[int, Field(ge=10)] = 500
    """The least rows held out. Absent: 500."""

    require: Literal["superior", "not_inferior"] = "not_inferior"
    """`superior`: the lower end of the interval of the difference is above 0. `not_inferior`: above minus `margin`.
    Absent: not_inferior."""

    margin: Annotated[float, Field(ge=0)] = 0.01
    """What a candidate may lose in the deciding metric and still not be inferior. Absent: 0.01."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """One-sided confidence of the paired bootstrap interval. Absent: 0.95."""

    floors: dict[str, Number] = {}
    """Metric to the least value (for losses: the greatest) on the rows held out. Absent: those of monitoring."""

    slice_drop: Annotated[float, Field(gt=0)] = 0.05
    """How far the deciding metric may fall below the champion's in any judged slice. Absent: 0.05."""

    slice_gap: Annotated[float, Field(gt=0)] | None = None
    """The greatest gap of the deciding metric between two judged slices. Absent: not judged."""

    calibration: Annotated[float, Field(gt=0)] = 0.1
    """The greatest expected calibration error, for binary and multiclass tasks; a candidate beyond it still passes
    when it is no worse calibrated than the champion. Absent: 0.1."""

    latency: Duration = 0.05
    """The longest time for one row, median of the golden rows. Absent: 50ms."""

    size: Size = 1 << 30
    """The largest model file. Absent: 1GiB."""

    backtest: Annotated[int, Field(ge=0, le=24)] = 0
    """Earlier spans of `holdout` length on which the recipe is tried, too; the mean difference must not be inferior.
    Absent: 0."""

    kpi_drop: Annotated[float, Field(ge=0)] | None = None
    """How far `monitoring.kpi` may fall below the champion's. Absent: reported, not judged."""

    refit: bool = True
    """Whether the recipe that passed is refitted on every row, the rows held out included. Absent: it is."""


class StageSpec(Spec):
    """One step of a rollout."""

    kind: Literal["shadow", "canary"]
    """`shadow`: answers are compared and never given. `canary`: a share of requests is answered. Required."""

    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of requests the challenger sees. Absent: all, which for a canary is blue-green."""

    requests: Annotated[int, Field(ge=1)] = 100
    """Requests the challenger must have seen. Absent: 100."""

    time: Duration = 3600.0
    """How long the stage lasts at least. Absent: 1h."""

    deadline: Duration = 1_209_600.0
    """After which a stage without a verdict gives the candidate up. Absent: 14d."""


class GuardsSpec(Spec):
    """Harm that a canary excludes: it passes once harm above each margin is excluded."""

    errors: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """Margin of the error rate over the champion's. Absent: 0.02, 2 points."""

    latency: Duration = 0.1
    """Margin of the time an answer takes, at the 99th percentile, over the champion's. Absent: 100ms."""

    predictions: Annotated[float, Field(gt=0)] = 0.5
    """The greatest PSI of outputs between challenger and champion. Absent: 0.5."""

    metric: Annotated[float, Field(gt=0)] | None = None
    """Margin of the deciding metric, for traffic that can settle it. Absent: the shadow's paired test judges it."""


class RolloutSpec(Spec):
    """How a candidate that passed its gates comes before users."""

    mode: Literal["manual", "auto"] = "auto"
    """`manual`: each promotion waits for `stackyard promote`. Absent: auto."""

    stages: tuple[StageSpec, ...] = (
        StageSpec(kind="shadow"),
        StageSpec(kind="canary", share=0.05),
        StageSpec(kind="canary", share=0.25),
        StageSpec(kind="canary", share=0.5),
    )
    """The steps, in order; none at all is a direct switch. Absent: shadow, then canary 5 %, 25 %, 50 %."""

    watch: Duration | None = None
    """How long after a promotion the former champion goes on as a shadow; where its answers prove better, it is
    taken back by itself. Absent: not at all, and the canary's guards are the last."""

    key: Column | None = None
    """The column whose value keeps a caller on one arm. Absent: the request id."""

    margin: Annotated[float, Field(ge=0)] = 0.01
    """What a routine refresh may lose in the shadow's paired comparison. Absent: 0.01."""

    guards: GuardsSpec = GuardsSpec()
    """What a canary excludes. Absent: the defaults of each guard."""

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Chance of stopping a challenger that does no harm, over the whole rollout. Absent: 0.05."""

    power: Annotated[float, Field(gt=0.5, lt=1)] = 0.8
    """The power for which `plan` says how long a stage needs. Absent: 0.8."""

    fuse: Annotated[int, Field(ge=1)] = 5
    """Failures of a challenger in one replica after which that replica stops asking it. Absent: 5."""

    memory: Size = 1 << 30
    """Memory a challenger's process may take. Absent: 1GiB."""

    timeout: Duration = 0.25
    """Time a challenger has for one batch. Absent: 250ms."""

    traffic: Annotated[float, Field(gt=0)] | None = None
    """Requests expected a day, by which `plan` judges whether each stage can conclude. Absent: not judged."""


class AlertsSpec(Spec):
    """Who is told of what. A destination is a secret that holds an Apprise URL."""

    owners: dict[Literal["data", "model", "platform"], tuple[SecretName, ...]] = {}
    """Kind of trouble to destinations. Absent: trouble stands in the log, in `stackyard status` and nowhere else."""

    webhooks: dict[Name, SecretName] = {}
    """Name to the secret `URL SIGNING_KEY`: POSTed on promotion, rollback and drift, with an HMAC-SHA256.
    Absent: none."""

    group: Duration = 3600.0
    """Messages of one kind within this span are one. Absent: 1h."""

    daily: Annotated[int, Field(ge=1)] = 20
    """Messages to one destination a day at most; what is left out is counted in the next. Absent: 20."""
