"""Whether a `module:function` of the spec is there, found without running a line of it.

The file is parsed, not imported: what a project imports may be absent here, slow, or not to be trusted.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stackyard.spec.findings import Finding
from stackyard.spec.models import PythonSourceSpec
from stackyard.spec.problems import Keys, nearest

_LONGEST = 4 << 20


def findings(folder: Path, sections: Mapping[str, Any]) -> Iterator[Finding]:
    """What is wrong with the functions that the sections name."""
    features, data, monitoring = (sections.get(name) for name in ("features", "data", "monitoring"))
    if features is not None:
        yield from _finding(folder, ("features", "function"), features.function, 1)
    if data is not None and isinstance(data.source, PythonSourceSpec):
        yield from _finding(folder, ("data", "source", "python"), data.source.python, 2)
    if monitoring is not None and monitoring.kpi is not None:
        yield from _finding(folder, ("monitoring", "kpi"), monitoring.kpi, 1)


def _finding(folder: Path, keys: Keys, path: str, arguments: int) -> Iterator[Finding]:
    module, _, name = path.partition(":")
    file = _file(folder, module)
    if file is None:
        near = nearest(module, [each.stem for each in folder.glob("*.py")])
        rule = "there is no such module in the project's folder"
        yield Finding("module-missing", keys, rule, "write it, or name another", path, near and f"{near}:{name}")
        return
    try:
        if file.stat().st_size > _LONGEST:
            return
        tree = ast.parse(file.read_bytes())
    except SyntaxError as error:
        rule = f"{file.name} is not Python: line {error.lineno or 1}: {error.msg}"
        yield Finding("module-syntax", keys, rule, "correct it", path)
        return
    except (OSError, ValueError, RecursionError, MemoryError):
        yield Finding("module-unreadable", keys, f"{file.name} cannot be read", "correct it", path)
        return
    names = set(_names(tree.body))
    if name not in names and "*" not in names:
        near = nearest(name, sorted(names))
        rule = f"there is no such function in {file.name}"
        yield Finding("function-missing", keys, rule, "write it, or name another", path, near and f"{module}:{near}")
    for each in tree.body:
        if isinstance(each, ast.FunctionDef) and each.name == name and not _takes(each.args, arguments):
            given = "one argument" if arguments == 1 else f"{arguments} arguments"
            rule = f"{file.name}:{each.lineno} cannot be called with {given}"
            yield Finding("function-arguments", keys, rule, f"make it take {given}, or name another", path)


def _takes(taken: ast.arguments, count: int) -> bool:
    """Whether a function of these arguments can be called with so many, by place."""
    places = [*taken.posonlyargs, *taken.args]
    demanded = len(places) - len(taken.defaults)
    named = any(default is None for default in taken.kw_defaults)
    return demanded <= count and (len(places) >= count or taken.vararg is not None) and not named


def _file(folder: Path, module: str) -> Path | None:
    """The file of a module, which must lie in the folder itself."""
    base = folder.joinpath(*module.split("."))
    for file in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
        real = Path(os.path.realpath(file))  # os.path answers no where pathlib raises, for a name too long
        if os.path.isfile(real) and real.is_relative_to(os.path.realpath(folder)):
            return file
    return None


def _names(body: list[ast.stmt]) -> Iterator[str]:
    """What a module may call its own after import: functions, classes, assignments, imports, also in branches."""
    for each in body:
        if isinstance(each, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield each.name
        elif isinstance(each, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in each.names)
        elif isinstance(each, ast.Assign | ast.AnnAssign):
            targets = each.targets if isinstance(each, ast.Assign) else [each.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        elif isinstance(each, ast.If | ast.Try | ast.With):
            for part in ("body", "orelse", "finalbody"):
                yield from _names(getattr(each, part, []))
            for handler in getattr(each, "handlers", []):
                yield from _names(handler.body)
