"""What no single field can promise: that the fields of a spec fit one another.

Each rule is a function of the sections it looks at and is skipped while one of them is itself unsound, so that the
rules of the sound sections are still told in the same breath. Rules are pure and yield findings, not exceptions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from stackyard.spec import loop_rules, parameters
from stackyard.spec.findings import Finding
from stackyard.spec.metrics import METRICS
from stackyard.spec.models import ColumnSpec, DataSpec, ServingSpec, TaskSpec, TrainingSpec
from stackyard.spec.problems import Keys, nearest
from stackyard.spec.units import size_text

BODY_LIMIT: Final = 192 << 10
"""Bytes: a request and its head must fit in the proxy's buffer of 256 KiB, or it cannot be sent again."""
LOCAL_REPLICAS: Final = 8
"""A local stack holds 16 ports for replicas, and a rollout runs the old ones beside the new."""
MOST_HELD_OUT: Final = 0.9
"""At least a tenth of the rows is trained on."""
OBJECT_STORES: Final = ("s3", "gs", "az")

_LABELS = {"binary": ("boolean", "integer"), "multiclass": ("string", "integer"), "regression": ("float", "integer")}


def findings(sections: Mapping[str, Any]) -> Iterator[Finding]:
    """Every broken rule among the sections given: any of the project's, and target."""
    for rule, needs in _RULES:
        if all(name in sections for name in needs):
            yield from rule(**{name: sections[name] for name in needs})


def metric_fits_task(task: TaskSpec) -> Iterator[Finding]:
    known = METRICS[task.type]
    if task.metric is not None and task.metric not in known:
        rule = f"is not a metric of a {task.type} task"
        yield Finding("metric-of-task", ("task", "metric"), rule, f"write one of {', '.join(known)}", task.metric)


def classes_go_with_multiclass(task: TaskSpec) -> Iterator[Finding]:
    keys = ("task", "classes")
    if task.type == "multiclass" and task.classes is None:
        yield Finding("classes-of-task", keys, "is missing", "list the labels of a multiclass task, in order")
    elif task.type != "multiclass" and task.classes is not None:
        yield Finding("classes-of-task", keys, f"is not for a {task.type} task", "leave it out")
    elif task.classes is not None and len(set(task.classes)) < 2:
        yield Finding("classes-of-task", keys, "holds fewer than two labels", "list them all, in order")
    yield from _once(keys, task.classes)


def label_is_learnt_later(task: TaskSpec, data: DataSpec) -> Iterator[Finding]:
    keys = ("task", "label")
    column = data.columns.get(task.label)
    if column is None:
        near = nearest(task.label, data.columns)
        yield Finding("label-column", keys, "is not a column of data", "name one of data.columns", task.label, near)
        return
    if column.known != "after":
        where = ("data", "columns", task.label, "known")
        yield Finding("label-known", where, "the label is the truth, known only after", "write after", column.known)
    if column.type not in _LABELS[task.type]:
        where, wanted = ("data", "columns", task.label, "type"), " or ".join(_LABELS[task.type])
        yield Finding("label-type", where, f"the label of a {task.type} task is {wanted}", "change one", column.type)
    if task.classes and column.categories and set(task.classes) != set(column.categories):
        rule = f"is not the same set as data.columns.{task.label}.categories"
        yield Finding("label-classes", ("task", "classes"), rule, "make both the same")


def time_orders_rows(data: DataSpec) -> Iterator[Finding]:
    keys, column = ("data", "time"), data.columns.get(data.time)
    if column is None:
        near = nearest(data.time, data.columns)
        yield Finding("time-column", keys, "is not a column of data", "name one of data.columns", data.time, near)
        return
    place = ("data", "columns", data.time)
    if column.type != "datetime":
        yield Finding(
            "time-type", (*place, "type"), "the column of event time is a datetime", "write datetime", column.type
        )
    if column.known != "before":
        rule = "event time is known before the prediction"
        yield Finding("time-known", (*place, "known"), rule, "write before, or name another column", column.known)
    if column.nullable:
        rule = "event time is never missing"
        yield Finding("time-nullable", (*place, "nullable"), rule, "leave it out", True)


def window_is_not_empty(data: DataSpec) -> Iterator[Finding]:
    window = data.window
    if window.end <= window.start:
        rule = f"is not later than start, {window.start}"
        yield Finding(
            "window-order", ("data", "window", "end"), rule, "end is the day after the last one", str(window.end)
        )


def bounds_fit_columns(data: DataSpec) -> Iterator[Finding]:
    for name, column in data.columns.items():
        yield from _bounds(("data", "columns", name), column)


def object_store_is_known(data: DataSpec) -> Iterator[Finding]:
    for kind in ("parquet", "csv"):
        place = getattr(data.source, kind, None)
        if place is not None and "://" in place and place.partition("://")[0] not in OBJECT_STORES:
            remedy = "write s3://, gs:// or az://, or a path in the project"
            yield Finding("object-store", ("data", "source", kind), "is not in a known object store", remedy, place)


def enough_rows_are_trained_on(training: TrainingSpec) -> Iterator[Finding]:
    held = training.split.validation + training.split.test
    if held >= MOST_HELD_OUT:
        rule = f"validation and test together take {held:g} of the rows, not less than {MOST_HELD_OUT}"
        yield Finding("split-sum", ("training", "split"), rule, "make one smaller")


def parameters_are_the_authors(training: TrainingSpec) -> Iterator[Finding]:
    for name, value in training.parameters.items():
        place = ("training", "parameters", name)
        if refused := parameters.refusal(name):
            code, rule, remedy, near = refused
            yield Finding(code, place, rule, remedy, None, near)
        elif name not in parameters.WORDS and isinstance(value, str):
            yield Finding("parameter-type", place, "must be a number", "write for example 6 or 0.3", value)
    patience, keys = (
        training.parameters.get("early_stopping_rounds"),
        ("training", "parameters", "early_stopping_rounds"),
    )
    if patience is not None and (isinstance(patience, bool) or not isinstance(patience, int) or patience < 1):
        yield Finding("rounds", keys, "must be a whole number, at least 1", "write for example 20", patience)


def objective_fits_task(task: TaskSpec, training: TrainingSpec) -> Iterator[Finding]:
    chosen, known = training.parameters.get("objective"), parameters.OBJECTIVES[task.type]
    if chosen is not None and chosen not in known:
        keys, rule = ("training", "parameters", "objective"), f"is not a loss of a {task.type} task"
        remedy = f"write one of {', '.join(known)}" if len(known) > 1 else "leave it out"
        yield Finding("objective-of-task", keys, rule, remedy, chosen, nearest(chosen, known))


def training_has_time(training: TrainingSpec) -> Iterator[Finding]:
    if training.deadline == 0:
        yield Finding("no-time", ("training", "deadline"), "leaves no time", "write for example 1h")


def replicas_are_a_range(serving: ServingSpec) -> Iterator[Finding]:
    low, high, place = serving.replicas.min, serving.replicas.max, ("serving", "replicas")
    if high < low:
        rule = f"max is {high}, less than min, {low}"
        yield Finding("replicas-order", (*place, "max"), rule, "raise max or lower min", None, None, (*place, "min"))


def body_fits_the_proxy(serving: ServingSpec) -> Iterator[Finding]:
    if not 0 < serving.body_limit <= BODY_LIMIT:
        rule = f"must be more than 0 and at most {BODY_LIMIT >> 10}KiB"
        remedy = "a larger request could not be sent again when a replica dies; send fewer rows"
        yield Finding("body-limit", ("serving", "body_limit"), rule, remedy, size_text(serving.body_limit))


def serving_has_time(serving: ServingSpec) -> Iterator[Finding]:
    if serving.deadline == 0:
        yield Finding("no-time", ("serving", "deadline"), "leaves no time", "write for example 1s")


def replicas_fit_this_machine(serving: ServingSpec, target: str) -> Iterator[Finding]:
    place, most = ("serving", "replicas"), serving.replicas.max
    if target == "local" and most > LOCAL_REPLICAS:
        rule = f"must be at most {LOCAL_REPLICAS} where target is local"
        yield Finding("replicas-local", (*place, "max"), rule, "lower it in the overrides of the stack", most)


def _bounds(place: Keys, column: ColumnSpec) -> Iterator[Finding]:
    numeric = column.type in ("integer", "float")
    for side in ("minimum", "maximum"):
        value = getattr(column, side)
        if value is None:
            continue
        if not numeric:
            yield Finding(
                "bound-type", (*place, side), f"is for numbers, and the column is {column.type}", "leave it out", value
            )
        elif column.type == "integer" and isinstance(value, float):
            yield Finding("bound-type", (*place, side), "must be whole for an integer", "leave out the fraction", value)
    if numeric and column.minimum is not None and column.maximum is not None and column.minimum > column.maximum:
        rule = f"is less than minimum, {column.minimum}"
        yield Finding("bound-order", (*place, "maximum"), rule, "exchange them, or change one", column.maximum)
    if column.categories is not None and column.type != "string":
        rule = f"is for strings, and the column is {column.type}"
        yield Finding("categories-type", (*place, "categories"), rule, "leave it out")
    if column.categories == ():
        yield Finding("categories-none", (*place, "categories"), "allows no value", "list values, or leave it out")
    yield from _once((*place, "categories"), column.categories)


def _once(keys: Keys, words: tuple[str, ...] | None) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, word in enumerate(words or ()):
        if word in seen:
            yield Finding("listed-twice", (*keys, index), "is listed twice", "keep one", word)
        seen.add(word)


_ALL: tuple[Callable[..., Iterator[Finding]], ...] = (
    metric_fits_task,
    classes_go_with_multiclass,
    label_is_learnt_later,
    time_orders_rows,
    window_is_not_empty,
    bounds_fit_columns,
    object_store_is_known,
    enough_rows_are_trained_on,
    parameters_are_the_authors,
    objective_fits_task,
    training_has_time,
    replicas_are_a_range,
    body_fits_the_proxy,
    serving_has_time,
    replicas_fit_this_machine,
    *loop_rules.ALL,
)
_RULES: Final = tuple((rule, tuple(inspect.signature(rule).parameters)) for rule in _ALL)
