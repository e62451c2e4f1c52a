"""The JSON Schemas by which an editor completes and explains a spec while it is written.

`python -m stackyard.spec.schemas` writes them again after a change of the models; a test holds them fresh. They say
what a schema can; rules between fields are told by `stackyard plan`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from stackyard.spec.models import EnvironmentSpec, ProjectSpec
from stackyard.spec.units import DURATION, SIZE, duration_text, size_text

FOLDER: Final = Path(__file__).parent / "schemas"
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_AS_WRITTEN: Final = {f"^{DURATION}$": duration_text, f"^{SIZE}$": size_text}


def texts() -> dict[str, str]:
    """The schema files, by name."""
    return {f"{name}.schema.json": json.dumps(schema, indent=2) + "\n" for name, schema in _schemas().items()}


def _schemas() -> dict[str, Any]:
    project = _tidied(ProjectSpec.model_json_schema())
    environment = _tidied(EnvironmentSpec.model_json_schema())
    partial = _partial(project)
    source = partial["$defs"]["DataSpec"]["properties"]["source"]
    source["anyOf"] = [_joined(partial["$defs"], source["anyOf"]), {"type": "null"}]
    environment["$defs"] |= {f"Override{name}": each for name, each in partial.pop("$defs").items()}
    about = environment["properties"]["overrides"]["description"]
    environment["properties"]["overrides"] = {**partial, "description": about}
    return {
        "project": {"$schema": _DIALECT, **project},
        "environment": {"$schema": _DIALECT, **environment},
    }


def _each(change: Callable[[Any], Any], node: dict[str, Any]) -> dict[str, Any]:
    """Applies `change` to every schema inside a schema; names of fields are not keywords, whatever they are."""
    result: dict[str, Any] = {}
    for word, value in node.items():
        if word in ("properties", "$defs"):
            result[word] = {name: change(each) for name, each in value.items()}
        elif isinstance(value, list):
            result[word] = [change(each) for each in value]
        else:
            result[word] = change(value)
    return result


def _tidied(node: Any) -> Any:
    """As an author writes it: defaults with their units, and none where the description already tells all."""
    if not isinstance(node, dict):
        return node
    result = _each(_tidied, {word: value for word, value in node.items() if word != "title"})
    default = result.pop("default", None)
    if default is not None and not isinstance(default, dict | list):
        result["default"] = _AS_WRITTEN.get(result.get("pattern", ""), lambda value: value)(default)
    if "description" in result:
        result["description"] = re.sub(r"\s+", " ", result["description"])
    return result


def _partial(node: Any) -> Any:
    """The same shape with nothing required and everything removable, for overrides."""
    if not isinstance(node, dict):
        return node
    result = _each(_partial, {word: value for word, value in node.items() if word not in ("required", "default")})
    if "oneOf" in result:  # a part may fit several branches
        result["anyOf"] = result.pop("oneOf")
    if "$ref" in result:
        result["$ref"] = result["$ref"].replace("#/$defs/", "#/$defs/Override")
    if "properties" in result:
        result["properties"] = {name: _removable(each) for name, each in result["properties"].items()}
    return result


def _joined(definitions: dict[str, Any], branches: list[Any]) -> dict[str, Any]:
    """One shape with the fields of all branches: an override may take one kind of source away and add another."""
    names = [each["$ref"].rpartition("/Override")[2] for each in branches if "$ref" in each]
    joined = {name: field for each in names for name, field in definitions[each]["properties"].items()}
    return {"type": "object", "additionalProperties": False, "properties": joined}


def _removable(schema: dict[str, Any]) -> dict[str, Any]:
    about = {"description": schema["description"]} if "description" in schema else {}
    inner = {name: each for name, each in schema.items() if name != "description"}
    branches = inner["anyOf"] if set(inner) == {"anyOf"} else [inner]
    null = {"type": "null"}
    return {"anyOf": branches if null in branches else [*branches, null], **about}


def main() -> None:
    """Writes the schema files."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
