"""Reading cluster.lock: what is built from which module, which files are kept, which Debian packages make a root."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cluster import folders


class Module(NamedTuple):
    """A folder under go/ with its go.mod and go.sum, and what to build from it."""

    name: str
    module: str
    version: str
    programs: tuple[str, ...]
    keep: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where go.mod is."""
        return folders.HERE / "go" / self.name

    def packages(self) -> list[str]:
        """The import paths to build; our own sources when the lock names none."""
        if not self.programs:
            return ["./..."]
        return [self.module if program == "." else f"{self.module}/{program}" for program in self.programs]


class Lock(NamedTuple):
    """The whole file."""

    modules: dict[str, Module]
    roots: dict[str, tuple[str, ...]]


def read(text: str | None = None) -> Lock:
    """The lock, from `text` or from the file beside this one. ValueError on a line that is none of its kinds."""
    lines = (folders.LOCK.read_text() if text is None else text).splitlines()
    rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    keep = {row[1]: tuple(row[2:]) for row in rows if row[0] == "keep"}
    modules, roots = {}, {}
    for kind, name, *rest in rows:
        if kind == "go":
            module, version, *programs = rest
            modules[name] = Module(name, module, version, tuple(programs), keep.get(name, ()))
        elif kind == "debian":
            roots[name] = tuple(rest)
        elif kind != "keep":
            raise ValueError(f"{folders.LOCK.name}: {kind} is not one of go, keep, debian")
    return Lock(modules, roots)
