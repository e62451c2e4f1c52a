"""An official Pulumi release, from the archive that Pulumi publishes: pinned by digest, never by the shell installer.

The installer edits the user's shell profile and takes whatever is newest; a pin in tools/pulumi.lock does neither.
A network that does not reach the address answers within seconds: None, and set-up goes on without.
"""

from __future__ import annotations

import hashlib
import tarfile
import threading
import urllib.request
from pathlib import Path
from typing import NamedTuple

from machine import places, say

ADDRESS = "https://get.pulumi.com/releases/sdk/pulumi-v{version}-linux-{architecture}.tar.gz"
CONNECT_SECONDS = 3
READ_SECONDS = 60


class Pin(NamedTuple):
    """One archive that may be used."""

    version: str
    architecture: str
    sha256: str


def pins(file: Path) -> list[Pin]:
    """The pins in tools/pulumi.lock, in order; comments and blank lines are skipped."""
    rows = [line.split("#", 1)[0].split() for line in file.read_text().splitlines()]
    for row in rows:
        if row and (len(row) != 3 or len(row[2]) != 64):
            say.stop(f"{file}: a line is VERSION ARCHITECTURE SHA256, not `{' '.join(row)}`.")
    return [Pin(*row) for row in rows if row]


def fetch(pin: Pin) -> Path | None:
    """Folder with the release's programs, from the cache or the network; None when it cannot be had."""
    target = places.cache() / "pulumi" / f"{pin.version}-{pin.sha256[:16]}"
    if (target / "pulumi").exists():
        return target
    address = ADDRESS.format(version=pin.version, architecture=pin.architecture)
    if not _reachable(address):
        say.line(f"Pulumi's downloads cannot be reached from here, so not using the release {pin.version}")
        return None
    try:
        with places.made_whole(target) as part:
            archive = part / "archive.tar.gz"
            _download(address, archive)
            if hashlib.sha256(archive.read_bytes()).hexdigest() != pin.sha256:
                raise OSError("it does not match its digest in tools/pulumi.lock")
            unpack(archive, part)
            archive.unlink()
    except OSError as error:
        say.line(f"not using the release of Pulumi {pin.version}: {error}")
        return None
    return target


def unpack(archive: Path, into: Path) -> None:
    """Write the archive's programs flat into `into`: regular files only, and only by their last name."""
    with tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name).name
            data = tar.extractfile(member) if member.isfile() else None
            if data and name.startswith("pulumi"):
                (into / name).write_bytes(data.read())
                (into / name).chmod(0o755)


def _reachable(address: str) -> bool:
    """Whether the address answers; in a thread, since no timeout bounds a slow name lookup."""
    answers = []

    def ask() -> None:
        request = urllib.request.Request(address, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=CONNECT_SECONDS) as answer:
                answers.append(answer.status == 200)
        except (OSError, ValueError):
            pass

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS + 1)
    return any(answers)


def _download(address: str, to: Path) -> None:
    progress = say.Progress("downloading Pulumi")
    with urllib.request.urlopen(address, timeout=READ_SECONDS) as answer, open(to, "wb") as file:
        total = int(answer.headers.get("Content-Length") or 0)
        while True:
            block = answer.read(1 << 20)
            if not block:
                break
            file.write(block)
            progress.at(f"{file.tell() >> 20} of {total >> 20} MiB")
    progress.done()
