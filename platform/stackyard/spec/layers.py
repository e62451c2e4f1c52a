"""Two files, one spec: the environment's `overrides` laid over the project, and where each value came from.

The rule is that of JSON Merge Patch (RFC 7386): fields are merged, anything else replaces, and an empty value
(`null`) takes a field away, so that its default holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stackyard.spec.problems import Keys, Origin
from stackyard.spec.reader import UNREADABLE, Document


def merged(project: Document, environment: Document) -> tuple[dict[str, Any], dict[Keys, Origin]]:
    """The project with the overrides of the environment, and the origin of each place of it."""
    origins = {keys: Origin(project.file, line, keys) for keys, line in project.lines.items()}
    tree = project.tree if isinstance(project.tree, dict) else {}
    patch = environment.tree.get("overrides") if isinstance(environment.tree, dict) else None
    if isinstance(patch, dict):
        tree = _patched(tree, patch, (), origins, environment)
    return tree, origins


def origin(origins: Mapping[Keys, Origin], keys: Keys) -> Origin:
    """Where the place is written; for a missing one, the line of the nearest place above it."""
    above = keys
    while above and above not in origins:
        above = above[:-1]
    found = origins[above]
    return Origin(found.file, found.line, (*found.keys, *keys[len(above) :]))


def _patched(base: Any, patch: dict[str, Any], keys: Keys, origins: dict[Keys, Origin], document: Document) -> Any:
    result = dict(base) if isinstance(base, dict) else {}
    for name, value in patch.items():
        place = (*keys, name)
        written = document.origin(("overrides", *place))
        if isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = _patched(result[name], value, place, origins, document)
            continue
        _forget(result.get(name), place, origins)
        origins[place] = written
        if value is None:
            result.pop(name, None)
        else:
            result[name] = value if value is UNREADABLE else _adopted(value, place, origins, document)
    return result


def _forget(value: Any, keys: Keys, origins: dict[Keys, Origin]) -> None:
    """Takes away the origins of a value that is being replaced."""
    origins.pop(keys, None)
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, tuple) else ()
    for name, each in inside:
        _forget(each, (*keys, name), origins)


def _adopted(value: Any, keys: Keys, origins: dict[Keys, Origin], document: Document) -> Any:
    """A value taken whole from the overrides, its origins noted and its empty fields left out."""
    origins[keys] = document.origin(("overrides", *keys))
    if isinstance(value, dict):
        fields = {name: _adopted(each, (*keys, name), origins, document) for name, each in value.items()}
        return {name: each for name, each in fields.items() if each is not None}
    if isinstance(value, tuple):
        return tuple(_adopted(each, (*keys, index), origins, document) for index, each in enumerate(value))
    return value
