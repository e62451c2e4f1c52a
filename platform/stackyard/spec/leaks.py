"""Secrets written in clear, found before anything else looks at a spec, and never repeated.

A spec is committed and shown on screens; a secret belongs into the stack's encrypted configuration. Found are values
of fields called like one (`db_password`), and what looks like one anywhere, comments included: a URL with a password,
a private key, the tokens of well-known services.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from stackyard.spec.problems import Keys, Origin, Problem
from stackyard.spec.reader import UNREADABLE, Document

_SHAPES: Final = (
    ("PRIVATE_KEY", "a private key", re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----")),
    ("AWS_ACCESS_KEY_ID", "an access key of AWS", re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,124}\b")),
    ("GITHUB_TOKEN", "a token of GitHub", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})")),
    ("GITLAB_TOKEN", "a token of GitLab", re.compile(r"\bglpat-[A-Za-z0-9_-]{16,}")),
    ("SLACK_TOKEN", "a token of Slack", re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}")),
    ("GOOGLE_API_KEY", "a key of Google", re.compile(r"\bAIza[A-Za-z0-9_-]{30,}")),
    ("TOKEN", "a signed token", re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.")),
    ("AZURE_STORAGE_ACCOUNT_KEY", "an account key of Azure", re.compile(r"\bAccountKey=[A-Za-z0-9+/]{20,}")),
    ("URL_SIGNATURE", "a signed URL", re.compile(r"[?&](?:sig|X-Amz-Signature|X-Goog-Signature)=[A-Za-z0-9%+/]{16,}")),
    ("", "a URL with a password", re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,20}://[^/\s:@'\"]{0,256}:[^/\s@'\"]{1,256}@")),
)
_CALLED = """
    password passwords passwd pwd passphrase token secret secrets credential credentials apikey accesskey
    secretkey privatekey api_key api_keys access_key access_keys secret_key private_key account_key
    encryption_key auth_key access_key_id client_secret connection_string
"""
_NAMES: Final = frozenset(_CALLED.split())
_PASSWORDS: Final = frozenset({"password", "passwd", "pwd", "passphrase"})
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_ASSIGNED = re.compile(r"""^[\s-]*["']?([A-Za-z0-9_.-]{1,80})["']?\s*:\s*(\S.*)$""")
_SECRET_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,62}")


def problems(document: Document) -> list[Problem]:
    """One problem for each secret in clear; its value stands in none of them."""
    if not isinstance(document.tree, dict):
        return list(_in_lines(document, frozenset(), named=True))
    found: list[Problem] = []
    seen: set[str] = set()
    for keys, value in _places(document.tree):
        shape = _shape(value) or _shape(keys[-1])
        if shape:
            seen.add(shape[2])
            name = shape[0] or f"{_variable(keys)}_PASSWORD"
            found.append(_problem(document.origin(() if _shape(keys[-1]) else keys), shape[1], name))
        elif _is_literal(keys, value):
            found.append(_problem(document.origin(keys), "a secret", _variable(keys)))
    return found + list(_in_lines(document, seen, named=False))


def silenced(found: Iterable[Problem], leaked: Iterable[Problem]) -> Iterator[Problem]:
    """The other problems, without a value that may be secret: on a line with one, in a field for one, or like one."""
    lines = {(each.file, each.line) for each in leaked}
    for problem in found:
        keys = problem.origin.keys
        named = "secrets" in keys or (keys and _named(keys[-1]))
        if not (named or (problem.file, problem.line) in lines or _shape(str(problem))):
            yield problem
            continue
        bare = replace(problem, value=None, suggestion=None)
        yield replace(bare, origin=replace(bare.origin, keys=())) if _shape(str(bare)) else bare


def _problem(origin: Origin, what: str, name: str) -> Problem:
    remedy = f"take it out, run `pulumi config set --secret {name}`, and list {name} under data.source.secrets"
    return Problem("plaintext-secret", origin, f"is {what} in clear", remedy)


def _in_lines(document: Document, seen: Iterable[str], named: bool) -> Iterator[Problem]:
    """Secrets in the text itself: in comments, and everywhere in a file that could not be read further."""
    for number, line in enumerate(document.text.splitlines(), 1):
        shape = _shape(line)
        assigned = _ASSIGNED.match(line) if named else None
        if shape and shape[2] not in seen:
            yield _problem(Origin(document.file, number), shape[1], shape[0] or "URL_PASSWORD")
        elif assigned and _is_literal((assigned[1],), assigned[2].strip("\"' ")):
            yield _problem(Origin(document.file, number), "a secret", _variable((assigned[1],)))


def _places(value: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Every key with its value and every item; the depth is bounded by the reader."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, tuple) else ()
    for key, each in inside:
        yield (*keys, key), each
        yield from _places(each, (*keys, key))


def _shape(text: Any) -> tuple[str, str, str] | None:
    """Name, description and text of the secret that a text holds."""
    if not isinstance(text, str) or len(text) < 6:
        return None
    for name, what, pattern in _SHAPES:
        if match := pattern.search(text):
            return name, what, match[0]
    return None


def _named(key: str | int) -> str | None:
    """The sensitive word that a field's name ends in, `api_key` of `mapsApiKey`."""
    words = [word.lower() for word in _WORD.findall(key[:80])] if isinstance(key, str) else []
    return next((name for last in (3, 2, 1) if (name := "_".join(words[-last:])) in _NAMES), None)


def _is_literal(keys: Keys, value: Any) -> bool:
    named = _named(keys[-1])
    if named is None and keys[-2:-1] == ("secrets",) and isinstance(keys[-1], str):
        named = "secret"  # `secrets: {NAME: value}`, where a list of names is meant
    if named is None or value is None or isinstance(value, bool | dict | tuple):
        return False
    if isinstance(value, int | float):
        return named in _PASSWORDS
    if value is UNREADABLE:
        return True
    is_names = named == "secrets" and bool(re.fullmatch(r"[\[\]A-Z0-9_,\s]*", value))
    return bool(value) and not is_names


def _variable(keys: Keys) -> str:
    """The environment name that a secret of this field would have."""
    word = next((key for key in reversed(keys) if isinstance(key, str)), "")
    name = "_".join(each.upper() for each in _WORD.findall(word[:60])).lstrip("0123456789_")
    return name if _SECRET_NAME.fullmatch(name) else "SECRET"
