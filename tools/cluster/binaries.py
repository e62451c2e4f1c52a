"""The programs, built from the Go module proxy by `go build` exactly as go.sum has them, once for this user."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

from cluster import folders, lock, steps
from machine import places, say, source

_LIMIT_SECONDS = 3600.0
_RECIPE = "1"
"""Changes when the way of building changes what is built."""

_SPACE = 12 << 30
"""Measured: 5 GB of Go's build cache, 2 GB of modules, 0.7 GB of programs, 3 GB of roots and images."""


def target(module: lock.Module) -> Path:
    """Where a module's programs lie once built, and the files it keeps under files/."""
    sources = sorted(file for file in module.folder.rglob("*") if file.is_file())
    names = " ".join((module.name, module.module, module.version, *module.programs, *module.keep))
    made_of = places.digest(_RECIPE, names, platform.machine(), *sources)
    return folders.cache() / f"{module.name}-{made_of[:16]}"


def built(module: lock.Module) -> bool:
    """Whether they are there."""
    return target(module).is_dir()


def build(modules: list[lock.Module], logs: Path) -> None:
    """Build those of `modules` that are not there yet. Call under `only_one`."""
    missing = [module for module in modules if not built(module)]
    if not missing:
        return
    free = shutil.disk_usage(_existing(folders.cache())).free
    if free < _SPACE:
        say.stop(f"building a cluster takes {_SPACE >> 30} GB under {folders.cache()}: only {free >> 30} GB are free.")
    go = source.find_go(_newest(missing))
    for module in missing:
        _build(go, module, logs / f"make-{module.name}.log")


def environment() -> dict[str, str]:
    """For every `go`: GOFLAGS from outside could change what is built; the proxy and its settings are the user's."""
    return {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off"}


def command(go: str, module: lock.Module, out: Path) -> list[str]:
    """The build of one module into the folder `out`."""
    single = module.programs == (".",)
    result = str(out / module.name) if single else f"{out}/"
    flags = ["-mod=readonly", "-trimpath", "-ldflags", " ".join(["-s", "-w", *_stamps(module)])]
    return [go, "build", *flags, "-o", result, *module.packages()]


def _stamps(module: lock.Module) -> list[str]:
    """Kubernetes learns its version from the linker; without it clients and API server take it for v0.0.0."""
    if module.name != "kubernetes":
        return []
    major, minor, _ = module.version.lstrip("v").split(".")
    values = {"gitVersion": module.version, "gitMajor": major, "gitMinor": minor}
    where = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return [f"-X {package}.{name}={value}" for package in where for name, value in values.items()]


def _build(go: str, module: lock.Module, log: Path) -> None:
    what = f"building {module.name} {module.version}" if module.version != "-" else "building our own small programs"
    with places.made_whole(target(module)) as part:
        steps.run(what, command(go, module, part), log, _LIMIT_SECONDS, environment(), module.folder)
        if module.keep:
            _keep(go, module, part / "files")


def _keep(go: str, module: lock.Module, out: Path) -> None:
    asked = subprocess.run(
        [go, "list", "-m", "-f", "{{.Dir}}", module.module],
        cwd=module.folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    home = Path(asked.stdout.strip())
    for pattern in module.keep:
        found = sorted(home.glob(pattern))
        if not found:
            say.stop(f"{module.module} {module.version} has no {pattern}: cluster.lock and go.mod do not fit.")
        for file in found:
            copy = out / file.relative_to(home)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def _newest(modules: list[lock.Module]) -> str:
    """The oldest Go that builds all of them."""
    lines = [line for module in modules for line in (module.folder / "go.mod").read_text().splitlines()]
    return max((line.split()[1] for line in lines if line.startswith("go ")), key=lambda v: [*map(int, v.split("."))])


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
