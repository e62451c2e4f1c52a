"""From a task and an author's parameters to what XGBoost is told, with every mistake found before a cluster starts.

XGBoost ignores a parameter it does not know; here that is an error, and so is one that the platform sets itself.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import polars as pl
import xgboost

from stackyard.spec.metrics import metric
from stackyard.spec.models import ProjectSpec, SplitSpec, TaskSpec
from stackyard.spec.parameters import OBJECTIVES, refusal
from stackyard.store.documents import digest_of

PATIENCE = "early_stopping_rounds"
"""Not a parameter of the booster but of its training: rounds without improvement on the validation rows."""
_WATCHED = {
    "auc": "auc",
    "log_loss": "logloss",
    "accuracy": "error",
    "precision": "logloss",
    "recall": "logloss",
    "f1": "logloss",
    "macro_f1": "mlogloss",
    "rmse": "rmse",
    "mae": "mae",
    "r2": "rmse",
}
"""The deciding figure, or the nearest smooth one that XGBoost can watch while it trains."""


class RecipeError(Exception):
    """Parameters or labels that no model can be made from."""


def parameters(project: ProjectSpec) -> dict[str, Any]:
    """What the booster is told, complete but for the seed. Raises RecipeError naming the first mistake."""
    task, training = project.task, project.training
    given = {name: value for name, value in training.parameters.items() if name != PATIENCE}
    for name in given:
        if (refused := refusal(name)) is not None:
            raise RecipeError(f"training.parameters.{name} {refused[1]}; {refused[2]}")
    allowed = OBJECTIVES[task.type]
    if (objective := given.get("objective", allowed[0])) not in allowed:
        raise RecipeError(f"training.parameters.objective: {objective!r} is not for {task.type}: {', '.join(allowed)}")
    watched = _WATCHED[metric(task)]
    if task.type == "multiclass":
        watched = {"logloss": "mlogloss", "error": "merror"}.get(watched, watched)
    told = {"tree_method": "hist", "eval_metric": watched, **given, "objective": objective}
    told |= {"nthread": training.threads, "verbosity": 1}
    if task.type == "multiclass":
        told["num_class"] = len(task.classes or ())
    _try(told, task, list(given))
    return told


def digest(project: ProjectSpec, told: dict[str, Any], code: str, versions: dict[str, str]) -> str:
    """The recipe's digest: all that decides a model but its rows. Trial and refitted bundle carry the same one."""
    training = project.training
    decides = [project.task.model_dump(mode="json"), told, patience(project), training.rounds, training.seed]
    return digest_of([*decides, training.workers, training.checkpoint_every, code, versions])


def patience(project: ProjectSpec) -> int | None:
    """Rounds without improvement after which the trial stops; None when the author did not ask for that."""
    value = project.training.parameters.get(PATIENCE)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RecipeError(f"training.parameters.{PATIENCE}: {value!r} is not a number of rounds")
    return value


def labels(task: TaskSpec, column: pl.Series) -> np.ndarray:
    """The label as float32 [rows]: 0/1, class numbers in the order of `task.classes`, or values.

    Raises RecipeError for a missing label, one that is no class, or one that is not finite.
    """
    if column.null_count():
        raise RecipeError(f"task.label: {column.null_count()} of {len(column)} rows have no {task.label!r}")
    if task.type == "multiclass":
        places = {name: place for place, name in enumerate(task.classes or ())}
        text = column.cast(pl.String)
        if unknown := sorted(set(text.unique()) - set(places)):
            raise RecipeError(f"task.classes: {task.label!r} also holds {', '.join(unknown[:5])}")
        return text.replace_strict(places, return_dtype=pl.Float32).to_numpy().astype(np.float32)
    try:
        found = column.cast(pl.Float32).to_numpy().astype(np.float32)
    except pl.exceptions.PolarsError:
        raise RecipeError(f"task.label: {task.label!r} is not a number") from None
    if not np.isfinite(found).all():
        raise RecipeError(f"task.label: {task.label!r} holds values that are not finite")
    if task.type == "binary" and not np.isin(found, (0, 1)).all():
        raise RecipeError(f"task.label: {task.label!r} of a binary task is boolean or 0 and 1")
    return found


def boundaries(times: np.ndarray, split: SplitSpec) -> tuple[int, int]:
    """Ends of the training and of the validation rows; the rest is for the test.

    `times` [rows] ascend. Rows of one instant stay together, on the newer side. Raises RecipeError if a part is empty.
    """
    rows = len(times)
    cuts = []
    for share in (split.validation + split.test, split.test):
        place = min(max(rows - round(rows * share), 0), max(rows - 1, 0))
        cuts.append(int(np.searchsorted(times, times[place], side="left")) if rows else 0)
    if not 0 < cuts[0] < cuts[1] < rows:
        raise RecipeError(f"training.split: {rows} rows are too few to train, validate and test on")
    return cuts[0], cuts[1]


def held_out(times: np.ndarray, start: np.datetime64, split: SplitSpec, patience: int | None) -> tuple[int, int]:
    """Ends of the training and of the validation rows where those from `start` on are held out.

    `times` [rows] ascend. Without `patience` nothing is validated on and both are the same; else the newest share of
    the rest is. Raises RecipeError if a part is empty.
    """
    end = int(np.searchsorted(times, start, side="left"))
    if not 0 < end < len(times):
        raise RecipeError(f"gates.holdout: {end} of {len(times)} rows are older than the hold-out ({start}): too few")
    if patience is None:
        return end, end
    begin = int(np.searchsorted(times, times[max(end - max(round(end * split.validation), 1), 0)], side="left"))
    if begin == 0:
        raise RecipeError(f"training.split: {end} rows before the hold-out are too few to train and validate on")
    return begin, end


def _try(told: dict[str, Any], task: TaskSpec, given: list[str]) -> None:
    """XGBoost itself says what it does not want; then each of the author's parameters is tried without the others."""
    if (wrong := _wrong(told, task)) is None:
        return
    for name in given:
        alone = {key: value for key, value in told.items() if key == name or key not in given}
        if (one := _wrong(alone, task)) is not None:
            raise RecipeError(f"training.parameters.{name}: {one}")
    raise RecipeError(f"training.parameters: {wrong}")


def _wrong(told: dict[str, Any], task: TaskSpec) -> str | None:
    """What is wrong with parameters, found by two rounds on a few rows; None when nothing is."""
    classes = len(task.classes or ()) if task.type == "multiclass" else 2
    rows = np.arange(4 * classes, dtype=np.float32)
    data = xgboost.DMatrix(rows.reshape(-1, 1), label=rows % classes + (task.type == "regression"), nthread=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            xgboost.train(told, data, 2, evals=[(data, "rows")], verbose_eval=False)
        except (xgboost.core.XGBoostError, ValueError, TypeError) as error:
            return _first_line(error)
    unused = [str(warning.message) for warning in caught if "are not used" in str(warning.message)]
    return f"not used by XGBoost: {unused[0].partition('{')[2].partition('}')[0].strip()}" if unused else None


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[0].partition("] ")[2] or lines[0]) if lines else type(error).__name__
