"""The words and single values that a spec is made of, each safe where it ends up: paths, metrics, DNS, a shell."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
"""Lower-case letters, digits and dashes, a letter first, at most 31: safe in paths, metrics and DNS."""

Column = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]
"""A column's name: letters, digits and underscores, no digit first."""

FunctionPath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]
"""`module:function`, a plain function in the project's folder."""

SecretName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,62}$")]
"""The name of a secret, as an environment variable would be called."""


PublicKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{43}=$")]
"""The public half of an ed25519 key: 32 bytes in base64."""

Cron = Annotated[str, StringConstraints(pattern=r"^[0-9*/,A-Za-z#L-]+( [0-9*/,A-Za-z#L-]+){4}$", max_length=80)]
"""Five fields of a time table."""

TimeZone = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_+/-]{0,50}$")]
"""An IANA time zone, such as Europe/Zurich."""

Hours = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$")]
"""A span of the day, such as 22:00-06:00."""


def number(value: Any) -> Any:
    """The number, unchanged. Raises ValueError for anything else, true and false included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")
    return value


def scalar(value: Any) -> Any:
    """The single value, unchanged. Raises ValueError for a list, fields or nothing."""
    if not isinstance(value, bool | int | float | str):
        raise ValueError("must be a number, text or a truth value")
    return value


# Checked before the union is tried, so that an author reads one sentence and not one per branch.
Number = Annotated[int | float, BeforeValidator(number)]
"""A whole number or not; which of both is kept."""

Scalar = Annotated[int | float | str | bool, BeforeValidator(scalar)]
"""One value, not a list and not fields."""
