"""Which Pulumi engine runs here: the user's own, else the official release, else one built from its source.

Whatever is chosen ends as one `Engine`: the folders that go on PATH. What we fetch or build lies in the user's cache
under a digest of what it was made from, so that checkouts share it and a change of the pins makes another.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from machine import places, release, say, source, versions

OLDEST = "3.259.0"
"""The oldest engine that these programs are tested with; an older one on PATH is left alone and not used."""

_STAND_IN = places.TOOLS / "host"
_HOST = "pulumi-language-python"


class Engine(NamedTuple):
    """An engine to use: where `pulumi` is, where its Python language host is, and where it came from."""

    pulumi: str
    host: str
    origin: str

    def folders(self) -> list[str]:
        """What goes on PATH, in order."""
        return list(dict.fromkeys([os.path.dirname(self.pulumi), os.path.dirname(self.host)]))

    def there(self) -> bool:
        """Whether both programs are still where they were."""
        return os.access(self.pulumi, os.X_OK) and os.access(self.host, os.X_OK)


def fingerprint() -> str:
    """Changes whenever `choose` might choose otherwise. Cheap: no program is started."""
    found = _on_path()
    stat = os.stat(found) if found else None
    identity = f"{found} {stat.st_mtime_ns} {stat.st_size}" if stat else "none"
    return places.digest(identity, OLDEST, source.digest(), places.TOOLS / "pulumi.lock", str(places.cache()))


def choose() -> Engine:
    """Find or make an engine; slow only the first time."""
    found = _on_path()
    if found:
        version = _version(found)
        if versions.at_least(version, OLDEST):
            return _with_host(found, f"your own {version.strip()}")
        say.line(f"leaving {found} alone: it is {version.strip() or 'unreadable'}, older than {OLDEST}")
    with places.only_one(places.cache() / ".engine-lock", "making the Pulumi engine"):
        if source.built():
            return _with_host(str(source.target() / "pulumi"), "built from source earlier")
        for pin in release.pins(places.TOOLS / "pulumi.lock"):
            if pin.architecture == architecture() and versions.at_least(pin.version, OLDEST):
                folder = release.fetch(pin)
                if folder:
                    return _with_host(str(folder / "pulumi"), f"official {pin.version}")
        source.build()
    return _with_host(str(source.target() / "pulumi"), "built from source")


def architecture() -> str:
    """This machine in the words of Pulumi's archives."""
    return {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def from_record(record: dict[str, str]) -> Engine | None:
    """The engine that an earlier `choose` wrote down, if it is still there."""
    try:
        engine = Engine(record["pulumi"], record["host"], record["origin"])
    except KeyError:
        return None
    return engine if engine.there() else None


def _on_path() -> str | None:
    """The user's pulumi; what we put on PATH ourselves is not theirs."""
    ours = str(places.cache())
    folders = [f for f in os.environ.get("PATH", "").split(os.pathsep) if f and not f.startswith(ours)]
    return shutil.which("pulumi", path=os.pathsep.join(folders)) if folders else None


def _with_host(pulumi: str, origin: str) -> Engine:
    """Pair it with the official host beside it or on PATH; else with the stand-in."""
    beside = Path(os.path.realpath(pulumi)).parent / _HOST
    on_path = shutil.which(_HOST, path=_path_without_stand_in())
    host = str(beside) if os.access(beside, os.X_OK) else on_path or str(_STAND_IN / _HOST)
    return Engine(pulumi, host, origin)


def _path_without_stand_in() -> str:
    # Another checkout's stand-in may be on PATH too: it would run that checkout's environment.
    mark = os.path.join("tools", "host")
    folders = os.environ.get("PATH", "").split(os.pathsep)
    return os.pathsep.join(f for f in folders if f and not f.rstrip("/").endswith(mark)) or "/nonexistent"


def _version(pulumi: str) -> str:
    try:
        environment = dict(os.environ, PULUMI_SKIP_UPDATE_CHECK="1")
        return subprocess.run([pulumi, "version"], capture_output=True, text=True, env=environment).stdout
    except OSError:
        return ""
