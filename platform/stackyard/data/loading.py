"""User code is imported from its own folder and nowhere else, and two versions of it live side by side.

Each load gets a package of its own, made up for it, with the folder as its path. Code in it that says
`import prices` finds `prices.py` of that folder first, at import time and later, because its modules carry an
`__import__` of their own; `sys.path` is never touched and no name of the user's appears in `sys.modules` bare.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.machinery
import importlib.util
import itertools
import sys
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stackyard.data.errors import DataError, blame
from stackyard.spec.problems import shown_file

_PREFIX = "_stackyard_code_"
_numbers = itertools.count(1)
_lock = threading.Lock()


def load(folder: Path, path: str) -> Callable[..., Any]:
    """The function named `module:function` in `folder`, imported afresh on each call.

    Raises DataError, with file and line, for a module that is missing or fails, and a name that is no function.
    Never writes or reads byte code. The function cannot be pickled by name: a worker loads it for itself.
    """
    module_name, _, function_name = path.partition(":")
    root = folder.resolve()
    if not _is_local(root, module_name.partition(".")[0]):
        raise DataError(f"{path}: there is no {module_name.partition('.')[0]}.py in {shown_file(folder)}")
    package = _package(root)
    try:
        module = importlib.import_module(f"{package}.{module_name}")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - user code may raise anything
        _forget(package)
        raise DataError(f"{path} cannot be imported: {blame(error, root)}") from None
    function = getattr(module, function_name, None)
    if not callable(function):
        _forget(package)
        raise DataError(f"{path}: {shown_file(Path(str(module.__file__)))} has no function {function_name}")
    return function


def _package(root: Path) -> str:
    name = f"{_PREFIX}{next(_numbers)}"
    module = types.ModuleType(name)
    module.__path__ = [str(root)]
    module.__package__ = name
    with _lock:
        if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
            sys.meta_path.insert(0, _Finder())
        sys.modules[name] = module
    return name


def _forget(package: str) -> None:
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]


def _is_local(root: Path, name: str) -> bool:
    folder = root / name
    return (root / f"{name}.py").is_file() or (folder.is_dir() and any(folder.glob("*.py")))


class _Loader(importlib.machinery.SourceFileLoader):
    """Source only, and with the import statement of its own folder."""

    def get_code(self, fullname: str) -> types.CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)

    def exec_module(self, module: types.ModuleType) -> None:
        package = module.__name__.partition(".")[0]
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _importer(package)}
        super().exec_module(module)


class _Finder:
    """Finds modules of the made-up packages, in their folders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(_PREFIX) or not path:
            return None
        for folder in path:
            found = importlib.machinery.FileFinder(folder, (_Loader, [".py"])).find_spec(fullname)
            if found is not None:
                if found.loader is None:  # a folder without __init__.py
                    found.submodule_search_locations = list(found.submodule_search_locations or [])
                return found
        return None


def _importer(package: str) -> Callable[..., types.ModuleType]:
    """`__import__` for the modules of `package`: names of its folder first, everything else as usual."""
    root = Path(sys.modules[package].__path__[0])

    def import_(
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> types.ModuleType:
        top = name.partition(".")[0]
        if level or not _is_local(root, top):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        found = builtins.__import__(f"{package}.{name}", globals, locals, fromlist or (), 0)
        return found if fromlist else sys.modules[f"{package}.{top}"]

    return import_
