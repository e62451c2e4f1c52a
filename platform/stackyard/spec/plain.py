"""A validated spec as plain JSON data and back, for handing it to a process of ours.

An author writes `10s`; between processes the same value is 10.0 seconds. `load` therefore takes what `dump` gave,
numbers for units, and nothing else changes: still strict, still closed.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel

from stackyard.spec.units import PLAIN

Model = TypeVar("Model", bound=BaseModel)


def dump(spec: BaseModel) -> dict[str, Any]:
    """JSON-safe data: durations in seconds, sizes in bytes, dates as ISO 8601, tuples as lists."""
    return spec.model_dump(mode="json")


def load(model: type[Model], data: dict[str, Any]) -> Model:
    """The spec that `dump` gave. Raises pydantic's ValidationError (a ValueError) for anything else."""
    return model.model_validate_json(json.dumps(data), context=PLAIN)
