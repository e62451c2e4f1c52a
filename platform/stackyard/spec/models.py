"""THE SEAM: what an author may write, as types.

Two layers make one spec. `ProjectSpec` (project.yaml, in the project's folder) says *what* is learned and
served; `EnvironmentSpec` (stacks/<env>.yaml) says *where* and how big. Every field carries a docstring with its
meaning, unit, default and what happens when it is absent; editors show it through the generated JSON Schemas.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from stackyard.spec.base import Spec
from stackyard.spec.leases import CeilingSpec, LeasedClusterSpec
from stackyard.spec.loop import AlertsSpec, GatesSpec, MonitoringSpec, RetrainingSpec, RolloutSpec
from stackyard.spec.names import Column, FunctionPath, Name, Number, PublicKey, Scalar, SecretName
from stackyard.spec.units import Day, Duration, Size


class TaskSpec(Spec):
    """What is predicted, and how it is judged."""

    type: Literal["binary", "multiclass", "regression"]
    """The kind of prediction. Required."""

    label: Column
    """The column that holds the truth. Required; it must be a column of `data` that is known `after`."""

    metric: (
        Literal["auc", "log_loss", "accuracy", "precision", "recall", "f1", "macro_f1", "rmse", "mae", "r2"] | None
    ) = None
    """The figure that decides. Absent: auc for binary, macro_f1 for multiclass, rmse for regression."""

    classes: tuple[str, ...] | None = None
    """The labels of a multiclass task, in order. Absent: none; a multiclass task needs them, no other may have them."""


class PythonSourceSpec(Spec):
    """Rows come from a function of the project."""

    python: FunctionPath
    """`module:function`, called with `start` and `end` (datetimes, end excluded), gives a polars frame. Required."""

    secrets: tuple[SecretName, ...] = ()
    """Secrets the function reads from its environment; set by `pulumi config set --secret NAME`. Absent: none."""


class ParquetSourceSpec(Spec):
    """Rows come from Parquet files in a folder or an object store."""

    parquet: str
    """A folder, file or glob relative to the project, or an object store URL (s3://, gs://, az://). Required."""

    secrets: tuple[SecretName, ...] = ()
    """Secrets of the object store, by their usual environment names. Absent: none."""


class CsvSourceSpec(Spec):
    """Rows come from CSV files in a folder or an object store; types are those of `data.columns`."""

    csv: str
    """A folder, file or glob relative to the project, or an object store URL (s3://, gs://, az://). Required."""

    secrets: tuple[SecretName, ...] = ()
    """Secrets of the object store, by their usual environment names. Absent: none."""


SOURCES = ("python", "parquet", "csv")
"""The kinds of source; the field that is there says which one is meant."""


def source_kind(value: Any) -> str | None:
    """Which source is meant: the one of `SOURCES` that is there. None if there is none, or more than one."""
    kinds = [kind for kind in SOURCES if (kind in value if isinstance(value, dict) else hasattr(value, kind))]
    return kinds[0] if len(kinds) == 1 else None


SourceSpec = Annotated[
    Annotated[PythonSourceSpec, Tag("python")]
    | Annotated[ParquetSourceSpec, Tag("parquet")]
    | Annotated[CsvSourceSpec, Tag("csv")],
    Discriminator(source_kind),
]
"""One of the three kinds."""


class ColumnSpec(Spec):
    """One column of the source, and the promise it keeps."""

    type: Literal["integer", "float", "boolean", "string", "datetime"]
    """The column's type. Required."""

    known: Literal["before", "after"]
    """Whether the value is known before the prediction is asked for. Only `before` columns reach features. Required."""

    nullable: bool = False
    """Whether the value may be missing. Absent: it may not, and a missing value fails the snapshot."""

    minimum: Number | None = None
    """The least value allowed, included. Absent: no lower bound. Numbers only."""

    maximum: Number | None = None
    """The greatest value allowed, included. Absent: no upper bound. Numbers only."""

    categories: tuple[str, ...] | None = None
    """The values allowed. Absent: any. Strings only."""


class WindowSpec(Spec):
    """A span of event time."""

    start: Day
    """The first day, included (UTC). Required."""

    end: Day
    """The day after the last one (UTC). Required; later than `start`."""


class DataSpec(Spec):
    """Where rows come from and what they must look like."""

    source: SourceSpec
    """A Python function, or Parquet or CSV files. Required."""

    time: Column
    """The column of event time: rows are ordered and split by it. Required; a `datetime` known `before`."""

    window: WindowSpec
    """The rows a snapshot freezes. Required."""

    columns: dict[Column, ColumnSpec]
    """Every column of the source. Required; a column not listed here is refused, so that none leaks unseen."""


class FeaturesSpec(Spec):
    """How source columns become model inputs; the same function runs in training and in serving."""

    function: FunctionPath
    """`module:function`, pure: a polars frame of the `before` columns in, a frame of as many rows out. Required."""


class SplitSpec(Spec):
    """Shares of the rows, in time order; the rest, the oldest, is trained on."""

    validation: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    """The share after the training rows, for early stopping where `early_stopping_rounds` asks for it. Absent: 0.1."""

    test: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    """The newest share, seen only for the final figures. Absent: 0.1."""


class TrainingSpec(Spec):
    """How a model is made."""

    family: Literal["xgboost"] = "xgboost"
    """The model family. Absent: xgboost."""

    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Ray Train workers; rows are dealt to them by rank. Absent: 1."""

    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Threads of each worker, fixed so that a digest can be repeated. Absent: 1."""

    rounds: Annotated[int, Field(ge=1, le=100_000)] = 200
    """Boosting rounds. Absent: 200."""

    parameters: dict[str, Scalar] = {}
    """Parameters handed to the family as they are (`max_depth: 6`). Absent: the family's own defaults."""

    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """The seed of everything random. Absent: 0."""

    split: SplitSpec = SplitSpec()
    """How rows are split over time. Absent: 80 % train, 10 % validation, 10 % test."""

    checkpoint_every: Annotated[int, Field(ge=1)] = 50
    """Rounds between checkpoints. Absent: 50."""

    max_failures: Annotated[int, Field(ge=0, le=100)] = 3
    """Failures of workers that a run survives by resuming at its newest sound checkpoint. Absent: 3."""

    deadline: Duration = 3600.0
    """How long a run may take, then it has failed. Absent: 1h."""


class ReplicasSpec(Spec):
    """How many serving replicas may run."""

    min: Annotated[int, Field(ge=1, le=1000)] = 2
    """Replicas always kept. Absent: 2, so that one may die."""

    max: Annotated[int, Field(ge=1, le=1000)] = 4
    """The most replicas autoscaling may start. Absent: 4. At least `min`."""

    target_load: Annotated[float, Field(gt=0)] = 8.0
    """Requests in progress per replica that autoscaling aims at. Absent: 8."""


class ServingSpec(Spec):
    """How the champion answers."""

    replicas: ReplicasSpec = ReplicasSpec()
    """Replica counts. Absent: 2 to 4."""

    queue: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Requests a replica holds at most; one more is answered 429. Absent: 256."""

    deadline: Duration = 1.0
    """How long a request may wait and run before it is answered 504. Absent: 1s."""

    drain: Duration = 10.0
    """How long a stopping replica may finish what it holds. Absent: 10s."""

    body_limit: Size = 64 << 10
    """The largest request body; a larger one is answered 413. Absent: 64KiB; at most 192KiB."""

    rows_limit: Annotated[int, Field(ge=1, le=100_000)] = 256
    """The most rows in one request; more are answered 422. Absent: 256."""


class ProjectSpec(Spec):
    """project.yaml: what is learned and served."""

    name: Name
    """The project's name, and its model's. Required."""

    task: TaskSpec
    """What is predicted. Required."""

    data: DataSpec
    """Where rows come from. Required."""

    features: FeaturesSpec
    """How rows become model inputs. Required."""

    training: TrainingSpec = TrainingSpec()
    """How a model is made. Absent: XGBoost with one worker."""

    serving: ServingSpec = ServingSpec()
    """How the model answers. Absent: two to four replicas."""

    monitoring: MonitoringSpec = MonitoringSpec()
    """What is watched while it answers. Absent: quality, drift and the deciding metric, over 7 days."""

    retraining: RetrainingSpec = RetrainingSpec()
    """When a new model is made. Absent: by itself when the metric falls or data drifts, at most every 7 days."""

    gates: GatesSpec = GatesSpec()
    """What a candidate must prove. Absent: that it is not inferior to the champion on the newest 14 days."""

    rollout: RolloutSpec = RolloutSpec()
    """How a candidate comes before users. Absent: shadow, then canary in three steps."""

    alerts: AlertsSpec = AlertsSpec()
    """Who is told of trouble. Absent: the log and `stackyard status`."""


class StoreSpec(Spec):
    """The artifact store: snapshots, bundles, releases, logs."""

    path: str | None = None
    """A folder, relative to the stack file. Absent: `.stackyard/<stack>/store` in the checkout."""

    keep: bool = True
    """Whether `destroy` leaves the store. Absent: it does, and the next `up` serves the same model again."""


class ApprovalsSpec(Spec):
    """Signatures that a promotion waits for in this environment."""

    required: Annotated[int, Field(ge=0, le=20)] = 0
    """How many of `approvers` must sign bundle, gate and plan. Absent: 0, a promotion waits for nobody."""

    approvers: dict[Name, PublicKey] = {}
    """Names to the public halves of their keys, as `stackyard approve --show-key` prints them. Absent: nobody."""


class EnvironmentSpec(Spec):
    """stacks/<env>.yaml: where one environment runs, and how big."""

    project: str
    """The project's folder, relative to this file. Required."""

    target: Literal["local"]
    """Where it runs. Required."""

    store: StoreSpec = StoreSpec()
    """The artifact store. Absent: a folder in the checkout that outlives `destroy`."""

    clock: Literal["system", "virtual"] = "system"
    """What decisions and logs take for the time. `virtual` stands still until `stackyard replay` moves it, for
    rehearsals. Absent: the machine's own."""

    approvals: ApprovalsSpec = ApprovalsSpec()
    """Signatures that a promotion waits for. Absent: none."""

    clusters: dict[Name, LeasedClusterSpec] = {}
    """Clusters that are lent for a while, by name. Absent: none."""

    ceiling: CeilingSpec = CeilingSpec()
    """What the open clusters of this user on this machine may come to at any instant. Absent: 8 clusters."""

    overrides: dict[str, object] = {}
    """Fields of project.yaml that this environment changes, in the same shape; an empty one returns to its default.
    Absent: none."""
