"""Two ways to ask and one way to answer.

`POST /predict` takes rows with named inputs; the Open Inference Protocol takes the same inputs as columns. Both
become rows, and both answers are made from the same outputs [rows, outputs]:

  binary      {"probability": p}                       the chance of a true label; where to cut is the caller's
  multiclass  {"label": "b", "probabilities": {...}}   every class, in the order of the spec
  regression  {"value": v}
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from stackyard.serving import strictjson
from stackyard.spec.models import ColumnSpec, TaskSpec

DATATYPES = {"string": "BYTES", "datetime": "BYTES", "float": "FP64", "integer": "INT64", "boolean": "BOOL"}
_ACCEPTED = {
    "string": {"BYTES"},
    "datetime": {"BYTES"},
    "float": {"FP64", "FP32", "FP16", "INT64", "INT32", "INT16", "INT8", "UINT8", "UINT16", "UINT32", "UINT64"},
    "integer": {"INT64", "INT32", "INT16", "INT8", "UINT8", "UINT16", "UINT32", "UINT64"},
    "boolean": {"BOOL"},
}
_INSTANCE = re.compile(r"instances\[(\d+)\](?:\.(.*))?")

Problem = tuple[str, str]
"""(path of the field, what is wrong with it)."""


class RequestError(Exception):
    """A request that cannot be answered: its status, and every problem found."""

    def __init__(self, status: int, message: str, problems: list[Problem] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.problems = status, message, problems or []


def parsed(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises RequestError 400."""
    try:
        value = strictjson.parse(body)
    except strictjson.JsonError as error:
        raise RequestError(400, str(error)) from None
    if not isinstance(value, dict):
        raise RequestError(422, "the body is not a JSON object", [("", "must be an object")])
    return value


def predict_rows(value: dict[str, Any], rows_limit: int) -> list[dict[str, Any]]:
    """The rows of a `/predict` body. Raises RequestError 422."""
    for key in value:
        if key != "instances":
            raise _wrong(key, "is not a field of this request; it has one: instances")
    rows = value.get("instances")
    if not isinstance(rows, list) or not rows:
        raise _wrong("instances", "must be a list of at least one object")
    if len(rows) > rows_limit:
        raise _wrong("instances", f"has {len(rows)} rows; at most {rows_limit} are answered at once")
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise _wrong(f"instances[{index}]", "must be an object of named inputs")
    return rows


def infer_rows(value: dict[str, Any], columns: dict[str, ColumnSpec], rows_limit: int) -> list[dict[str, Any]]:
    """The rows of an Open Inference Protocol body: one tensor of shape [n] or [n, 1] per input. Raises RequestError."""
    tensors = value.get("inputs")
    if not isinstance(tensors, list) or not tensors:
        raise _wrong("inputs", "must be a list of tensors, one per input")
    if not isinstance(value.get("id", ""), str):
        raise _wrong("id", "must be a string")
    found: dict[str, list[Any]] = {}
    for index, tensor in enumerate(tensors):
        path = f"inputs[{index}]"
        name, data = _tensor(tensor, path, columns)
        if name in found:
            raise _wrong(f"{path}.name", f"{name[:64]!r} is given twice")
        if found and len(data) != len(next(iter(found.values()))):
            raise _wrong(f"{path}.data", "has another number of rows than the inputs before it")
        found[name] = data
    count = len(next(iter(found.values())))
    if not 1 <= count <= rows_limit:
        raise _wrong("inputs", f"have {count} rows; 1 to {rows_limit} are answered at once")
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


def infer_problem(problem: Problem, value: dict[str, Any]) -> Problem:
    """`problem` of a row, told in the words of the tensors that the row came from."""
    path, message = problem
    match = _INSTANCE.fullmatch(path)
    if match is None or not match[2]:
        return ("inputs", message)
    for index, tensor in enumerate(value["inputs"]):
        if tensor["name"] == match[2]:
            return (f"inputs[{index}].data[{match[1]}]", message)
    return (f"inputs[name={match[2]}]", message)


def predictions(task: TaskSpec, outputs: np.ndarray) -> list[dict[str, Any]]:
    """One object per row, as the module's docstring shows."""
    if task.type == "binary":
        return [{"probability": value} for value in outputs[:, 0].tolist()]
    if task.type == "regression":
        return [{"value": value} for value in outputs[:, 0].tolist()]
    classes = task.classes or ()
    return [
        {"label": classes[best], "probabilities": dict(zip(classes, row, strict=True))}
        for best, row in zip(outputs.argmax(axis=1).tolist(), outputs.tolist(), strict=True)
    ]


def tensors(task: TaskSpec, outputs: np.ndarray) -> list[dict[str, Any]]:
    """The same outputs as Open Inference Protocol tensors."""
    rows = len(outputs)
    if task.type != "multiclass":
        name = "probability" if task.type == "binary" else "value"
        return [{"name": name, "shape": [rows], "datatype": "FP64", "data": outputs[:, 0].tolist()}]
    classes = task.classes or ()
    labels = [classes[best] for best in outputs.argmax(axis=1).tolist()]
    return [
        {"name": "label", "shape": [rows], "datatype": "BYTES", "data": labels},
        {"name": "probabilities", "shape": [rows, len(classes)], "datatype": "FP64", "data": outputs.ravel().tolist()},
    ]


def metadata(name: str, bundle: str, task: TaskSpec, columns: dict[str, ColumnSpec]) -> dict[str, Any]:
    """Open Inference Protocol model metadata; -1 is any number of rows."""
    empty = tensors(task, np.zeros((1, len(task.classes or (0,)))))
    return {
        "name": name,
        "versions": [bundle],
        "platform": "xgboost",
        "inputs": [{"name": key, "datatype": DATATYPES[spec.type], "shape": [-1]} for key, spec in columns.items()],
        "outputs": [{**{k: t[k] for k in ("name", "datatype")}, "shape": [-1, *t["shape"][1:]]} for t in empty],
    }


def _tensor(tensor: Any, path: str, columns: dict[str, ColumnSpec]) -> tuple[str, list[Any]]:
    if not isinstance(tensor, dict):
        raise _wrong(path, "must be an object")
    name, shape, datatype, data = (tensor.get(key) for key in ("name", "shape", "datatype", "data"))
    if not isinstance(name, str) or name not in columns:
        raise _wrong(f"{path}.name", f"must be one of the model's inputs: {', '.join(columns)}")
    accepted = _ACCEPTED[columns[name].type]
    if not isinstance(datatype, str) or datatype not in accepted:
        raise _wrong(f"{path}.datatype", f"must be {DATATYPES[columns[name].type]} for {name}")
    if not isinstance(data, list):
        raise _wrong(f"{path}.data", "must be a list")
    if data and all(isinstance(row, list) and len(row) == 1 for row in data):
        data = [row[0] for row in data]
    if (
        not isinstance(shape, list)
        or shape not in ([len(data)], [len(data), 1])
        or any(type(n) is not int for n in shape)
    ):
        raise _wrong(f"{path}.shape", f"must be [{len(data)}], as there are that many values")
    if columns[name].type == "float":  # 3 is a fine number for a float, but beyond 2**53 it would silently change
        data = [float(v) if type(v) is int and abs(v) <= 1 << 53 else v for v in data]
    return name, data


def _wrong(path: str, message: str) -> RequestError:
    return RequestError(422, f"{path} {message}", [(path, message)])
