"""What pydantic found, in our words: one problem per mistake, at the line where it was written.

pydantic speaks of types and branches; an author wants to know which line, which rule, and what to write instead.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import Tag, ValidationError

from stackyard.spec.models import SOURCES, Spec
from stackyard.spec.names import Column, Cron, FunctionPath, Hours, Name, PublicKey, SecretName, TimeZone
from stackyard.spec.problems import AT_MOST, Keys, Origin, Problem, nearest, shown_value

_CHOICE = re.compile(r"'([^']*)'")
_TYPES = {
    "string_type": ("must be text", "quote it"),
    "int_type": ("must be a whole number", "write it without quotes and without a fraction"),
    "int_from_float": ("must be a whole number", "leave out the fraction"),
    "float_type": ("must be a number", "write it without quotes"),
    "bool_type": ("must be true or false", "write true or false, without quotes"),
    "tuple_type": ("must be a list", "write `[first, second]`, or one `- item` a line"),
    "dict_type": ("must hold fields", "write `name: value` lines below it, indented"),
    "model_type": ("must hold fields", "write `name: value` lines below it, indented"),
    "finite_number": ("must be a finite number", "write a number"),
    "invalid_key": ("a field's name must be text", "quote it"),
}
_PATTERNS: tuple[Any, ...] = (
    (Name, ("must be a name", "use lower-case letters, digits and dashes, a letter first, at most 31")),
    (Column, ("must be a column's name", "use letters, digits and underscores, no digit first, at most 63")),
    (Cron, ("must be a time table", "write five fields: minute hour day month weekday, such as `0 6 * * 1`")),
    (TimeZone, ("must be an IANA time zone", "write for example UTC or Europe/Zurich")),
    (Hours, ("must be a span of hours", "write for example 22:00-06:00")),
    (PublicKey, ("must be the public half of a key", "write what `stackyard approve --show-key` prints")),
    (FunctionPath, ("must name a function", "write `module:function`, both of the project's folder")),
    (
        SecretName,
        (
            "must be the name of a secret, not its value",
            "write a name in capitals and run `pulumi config set --secret NAME`",
        ),
    ),
)


def problems(error: ValidationError, model: type[Spec], locate: Callable[[Keys], Origin]) -> Iterator[Problem]:
    """One problem for each mistake. `locate` gives the origin of a place in what was validated."""
    for mistake in error.errors(include_url=False, include_context=True)[: AT_MOST * 2]:
        keys, owner = _trace(model, mistake["loc"])
        yield _problem(mistake, locate(keys), owner)


def _problem(mistake: Any, origin: Origin, owner: Any) -> Problem:
    kind, value, context = mistake["type"], mistake["input"], mistake.get("ctx", {})
    word = origin.keys[-1] if origin.keys else ""
    if kind == "missing":
        return Problem("missing", origin, "is missing", f"add it: {_meaning(owner, word)}")
    if kind == "extra_forbidden":
        known = list(owner.model_fields) if isinstance(owner, type) else []
        near = nearest(word, known)
        return Problem("unknown-field", origin, "is not a field here", f"the fields are {_listed(known)}", None, near)
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return _source(origin, value)
    shown = shown_value(value)
    if value is None:
        known = owner.model_fields.get(str(word)) if isinstance(owner, type) and issubclass(owner, Spec) else None
        needed = known is not None and known.is_required()
        return Problem(
            "no-value", origin, "has no value", "write one" if needed else "write one, or leave the field out"
        )
    if kind == "literal_error":
        choices = _CHOICE.findall(context["expected"])
        return Problem(
            "choice",
            origin,
            "is not one of the choices",
            f"write {_listed(choices, 'or')}",
            shown,
            nearest(value, choices) if len(choices) > 1 else None,
        )
    if kind == "string_pattern_mismatch":
        rule, remedy = _pattern(context["pattern"])
        return Problem("pattern", origin, rule, remedy, shown)
    if kind == "value_error":
        said = str(context.get("error", mistake["msg"]))
        return Problem("value", origin, *_sentence(said), shown)
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        return Problem("range", origin, f"must be {words} {_short(context[name])}", "choose another value", shown)
    rule, remedy = _TYPES.get(kind, (f"is not valid ({kind})", "see the schema of the spec"))
    return Problem("type", origin, rule, remedy, shown)


_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


def _source(origin: Origin, value: Any) -> Problem:
    found = [kind for kind in SOURCES if isinstance(value, dict) and kind in value]
    if found:
        rule, remedy = f"names {len(found)} sources ({_listed(found)})", "keep one"
        return Problem("source", origin, rule, remedy)
    near = next((near for word in value if (near := nearest(word, SOURCES))), None) if isinstance(value, dict) else None
    return Problem("source", origin, "names no source", f"write {_listed(SOURCES, 'or')} below it", None, near)


def _sentence(said: str) -> tuple[str, str]:
    """Our own ValueErrors, `rule, for example remedy`, as rule and remedy."""
    rule, _, example = said.partition(", for example ")
    return rule, f"write for example {example}" if example else "choose another value"


def _pattern(pattern: str) -> tuple[str, str]:
    for kind, words in _PATTERNS:
        if any(getattr(each, "pattern", None) == pattern for each in kind.__metadata__):
            return words
    return f"does not match {pattern}", "choose another value"


def _short(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


def _listed(words: Any, last: str = "and") -> str:
    """`a, b and c`; nothing as `none`."""
    words = list(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else words[0] if words else "none"


def _meaning(owner: Any, name: Any) -> str:
    """The first sentence of a field's documentation, from its model."""
    known = owner.model_fields.get(name) if isinstance(owner, type) and issubclass(owner, Spec) else None
    said = (known.description or "" if known else "").split(". ")[0].rstrip(".")
    return said[:1].lower() + said[1:] if said else "it is required"


def _trace(model: type[Spec], loc: tuple[int | str, ...]) -> tuple[Keys, Any]:
    """The keys an author wrote for pydantic's `loc` (which also holds union tags), and the model they end in."""
    keys: list[int | str] = []
    kind: Any = model
    owner: Any = model
    for step in loc:
        kind = _bare(kind)
        branches = _tags(kind)
        if step in branches and isinstance(step, str):
            kind = owner = branches[step]
            continue
        if step == "[key]":
            break
        keys.append(step)
        origin = typing.get_origin(kind)
        if isinstance(kind, type) and issubclass(kind, Spec):
            owner = kind
            known = kind.model_fields.get(str(step))
            kind = known.annotation if known else Any
        elif origin in (dict, tuple):
            kind = typing.get_args(kind)[1 if origin is dict else 0]
    return tuple(keys), owner


def _tags(kind: Any) -> dict[str, Any]:
    """The branches of a tagged union by their tags; of anything else, none."""
    found = {}
    for branch in typing.get_args(kind):
        for extra in getattr(branch, "__metadata__", ()):
            if isinstance(extra, Tag):
                found[extra.tag] = branch.__origin__
    return found


def _bare(kind: Any) -> Any:
    """A type without its annotations and without `| None`."""
    while True:
        if hasattr(kind, "__metadata__"):
            kind = kind.__origin__
            continue
        branches = [each for each in typing.get_args(kind) if each is not type(None)]
        if type(None) in typing.get_args(kind) and len(branches) == 1:
            kind = branches[0]
            continue
        return kind
