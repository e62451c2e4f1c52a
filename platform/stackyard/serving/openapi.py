"""The OpenAPI 3.1 document of the model that answers, made from its own inputs: never out of date."""

from __future__ import annotations

from typing import Any

from stackyard.spec.models import ColumnSpec, TaskSpec

_TYPES = {"string": "string", "datetime": "string", "float": "number", "integer": "integer", "boolean": "boolean"}


def document(name: str, bundle: str, task: TaskSpec, columns: dict[str, ColumnSpec], rows_limit: int) -> dict[str, Any]:
    """The document; `bundle` is its version."""
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": bundle, "description": f"Predicts `{task.label}` ({task.type})."},
        "paths": {
            "/predict": {"post": _operation("predict", "PredictRequest", "PredictResponse")},
            f"/v2/models/{name}/infer": {"post": _operation("infer", "InferRequest", "InferResponse")},
            "/labels": {"post": _labels()},
            "/v2/health/live": {"get": _probe("live", "The process answers.")},
            "/v2/health/ready": {"get": _probe("ready", "A model is loaded and the replica is not draining.")},
            f"/v2/models/{name}/ready": {"get": _probe("modelReady", "The model is loaded.")},
            "/v2": {"get": _read("serverMetadata")},
            f"/v2/models/{name}": {"get": _read("modelMetadata")},
        },
        "components": {
            "schemas": _schemas(task, columns, rows_limit),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(task: TaskSpec, columns: dict[str, ColumnSpec], rows_limit: int) -> dict[str, Any]:
    instance = {
        "type": "object",
        "additionalProperties": False,
        "required": [name for name, spec in columns.items() if not spec.nullable],
        "properties": {name: _column(spec) for name, spec in columns.items()},
    }
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "datatype": {"type": "string"},
            "data": {"type": "array"},
        },
    }
    return {
        "Instance": instance,
        "Prediction": _prediction(task),
        "PredictRequest": _object(instances={**_list("Instance"), "minItems": 1, "maxItems": rows_limit}),
        "PredictResponse": _object(predictions=_list("Prediction"), model=_STRING, bundle=_STRING, request_id=_STRING),
        "Tensor": tensor,
        "InferRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {"id": _STRING, "inputs": _list("Tensor"), "outputs": {"type": "array"}},
        },
        "InferResponse": _object(model_name=_STRING, model_version=_STRING, id=_STRING, outputs=_list("Tensor")),
        "LabelsRequest": _object(labels={**_list("Label"), "minItems": 1}),
        "LabelsResponse": _object(accepted={"type": "integer"}),
        "Label": {
            "type": "object",
            "additionalProperties": False,
            "required": ["request_id", "label"],
            "properties": {
                "request_id": _STRING,
                "row": {"type": "integer", "minimum": 0, "default": 0},
                "label": _label(task),
            },
        },
        "Error": {
            "type": "object",
            "required": ["error"],
            "properties": {
                "error": _STRING,
                "request_id": _STRING,
                "problems": {"type": "array", "items": _object(path=_STRING, message=_STRING)},
            },
        },
    }


def _column(spec: ColumnSpec) -> dict[str, Any]:
    found: dict[str, Any] = {"type": [_TYPES[spec.type], "null"] if spec.nullable else _TYPES[spec.type]}
    if spec.type == "datetime":
        found["format"] = "date-time"
    if spec.categories is not None:
        found["enum"] = [*spec.categories, None] if spec.nullable else list(spec.categories)
    return found


def _prediction(task: TaskSpec) -> dict[str, Any]:
    if task.type == "binary":
        return _object(probability={"type": "number", "minimum": 0, "maximum": 1})
    if task.type == "regression":
        return _object(value={"type": "number"})
    classes = task.classes or ()
    number = {"type": "number", "minimum": 0, "maximum": 1}
    return _object(
        label={"type": "string", "enum": list(classes)},
        probabilities=_object(**dict.fromkeys(classes, number)),
    )


def _label(task: TaskSpec) -> dict[str, Any]:
    if task.type == "multiclass":
        return {"type": "string", "enum": list(task.classes or ())}
    return {"type": "boolean" if task.type == "binary" else "number"}


_STRING = {"type": "string"}

_ERRORS = {
    "400": "The body is not JSON.",
    "404": "There is no such model or page.",
    "413": "The body is too large.",
    "415": "The content type is not application/json.",
    "422": "A field is missing, unknown or of another type; `problems` names each.",
    "429": "The service is full; try again after `Retry-After` seconds.",
    "503": "No model is loaded, or the replica is stopping.",
    "504": "The answer was not ready in time.",
}


def _labels() -> dict[str, Any]:
    said = {"401": "No token, or a wrong one.", "403": "This service takes no labels.", "507": "They cannot be kept."}
    return {
        "operationId": "labels",
        "security": [{"token": []}],
        "requestBody": {"required": True, "content": _json("LabelsRequest")},
        "responses": {
            "202": {"description": "Taken, and safe on disk.", "content": _json("LabelsResponse")},
            **{
                code: {"description": text, "content": _json("Error")}
                for code, text in {**{c: _ERRORS[c] for c in ("400", "413", "415", "422", "503")}, **said}.items()
            },
        },
    }


def _operation(identity: str, asks: str, answers: str) -> dict[str, Any]:
    return {
        "operationId": identity,
        "requestBody": {"required": True, "content": _json(asks)},
        "responses": {
            "200": {
                "description": "Predictions, in the order of the rows.",
                "content": _json(answers),
                "headers": _HEADERS,
            },
            **{code: {"description": text, "content": _json("Error")} for code, text in _ERRORS.items()},
        },
    }


_HEADERS = {
    "X-Request-Id": {"schema": _STRING, "description": "The request's id; yours, when you sent a well-formed one."},
    "X-Stackyard-Bundle": {"schema": _STRING, "description": "Digest of the bundle that answered."},
}


def _probe(identity: str, text: str) -> dict[str, Any]:
    return {"operationId": identity, "responses": {"200": {"description": text}, "503": {"description": "Not so."}}}


def _read(identity: str) -> dict[str, Any]:
    return {"operationId": identity, "responses": {"200": {"description": "Open Inference Protocol metadata."}}}


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _list(name: str) -> dict[str, Any]:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}
