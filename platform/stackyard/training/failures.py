"""One clear sentence for whatever ended a run; None for what is nobody's mistake and worth another try."""

from __future__ import annotations

from collections.abc import Mapping

from stackyard.store.bundles import BundleError
from stackyard.store.objects import DigestMismatchError
from stackyard.training.fit import FitError
from stackyard.training.recipe import RecipeError


def explain(error: Exception) -> str | None:
    """The reason for result.json, or None when Ray itself went away and the same intent may be tried again."""
    if isinstance(error, RecipeError | FitError | BundleError | DigestMismatchError):
        return str(error)
    if violations := getattr(error, "violations", None):
        print(_table(violations), flush=True)
        first = str(violations[0])
        return f"data: {len(violations)} violation(s) of data.columns; the first: {first}"
    if type(error).__module__.partition(".")[0] == "stackyard":
        return str(error)
    if _cluster_is_gone(error):
        return None
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300] if text else 'no further word'}"


def without(secrets: Mapping[str, str], text: str) -> str:
    """`text` with every secret, and every line of one, replaced by its name: an author's error may quote any."""
    for name, value in secrets.items():
        for part in sorted({value, *value.splitlines()}, key=len, reverse=True):
            if part.strip():
                text = text.replace(part, f"({name})")
    return text


def _cluster_is_gone(error: Exception) -> bool:
    if type(error).__module__.partition(".")[0] != "ray":
        return False
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"RaySystemError", "ActorDiedError", "ActorUnavailableError", "NodeDiedError", "RpcError"})


def _table(violations: object) -> str:
    from rich.console import Console

    from stackyard.data import checks

    console = Console(width=140, no_color=True)
    with console.capture() as capture:
        console.print(checks.table(violations))  # type: ignore[arg-type]
    return capture.get()
