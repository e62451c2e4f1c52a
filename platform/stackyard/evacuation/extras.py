"""What lies beside a workspace and belongs to a version of it: what is installed, what ran."""

from __future__ import annotations

import subprocess
from typing import Any

from stackyard.evacuation.packs import Packer, Piece
from stackyard.evacuation.passing import Tally
from stackyard.evacuation.settings import SaverSettings
from stackyard.evacuation.walking import LeftOut, Unsaved

_SECONDS = 60
_INSTALLED = """
import importlib.metadata as found
for line in sorted({f"{each.metadata['Name']}=={each.version}" for each in found.distributions()}, key=str.lower):
    print(line)
"""


def collect(settings: SaverSettings, packer: Packer, tally: Tally) -> list[dict[str, Any]]:
    """Save what was asked for, as a listing has it; what is not there is left out, and told."""
    found: list[dict[str, Any]] = []
    pieces: list[tuple[dict[str, Any], Piece]] = []
    for name, extra in sorted(settings.extras.items()):
        place = f"extra {name}".encode()
        try:
            data = extra.file.read_bytes() if extra.file is not None else installed(str(extra.freeze))
        except FileNotFoundError as error:
            tally.left_out.append(LeftOut(place, f"there is no {error.filename}"))
            continue
        except (OSError, subprocess.SubprocessError) as error:
            tally.unsaved.append(Unsaved(place, "unreadable", str(error)))
            continue
        found.append({"name": name, "s": len(data)})
        pieces.append((found[-1], packer.add(data)))
    packer.close()
    for fields, piece in pieces:
        fields["c"] = [piece.place.plain()]
    return found


def installed(python: str) -> bytes:
    """What is installed for `python`, as requirements; without pip, names and versions alone."""
    for said in (["-m", "pip", "freeze", "--all", "--disable-pip-version-check"], ["-c", _INSTALLED]):
        asked = subprocess.run([python, *said], capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS)
        if asked.returncode == 0:
            return asked.stdout
    raise OSError(f"{python} does not say what is installed: {asked.stderr.decode(errors='replace')[-200:]}")
