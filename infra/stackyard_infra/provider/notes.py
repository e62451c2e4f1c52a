"""What is kept beside a workspace for those who work without the program: the calendar, the saver, who ends."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stackyard_infra.provider.backends import backend_url
from stackyard_infra.provider.ceilings import places_folder
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.private import public_half, random_file, read_plain
from stackyard_infra.provider.site import Site, private_folder

SETTINGS = {"exclude": [], "include": [], "largest": None, "encrypt_key": None}
"""What holds when a settings file was lost."""


def lease(site: Site, folder: Path, tag: str, told: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What the program `told` of a lease, and what only its place knows. Where its place under the ceiling is kept
    stays as it was `before`: a cron job has another environment than `up`."""
    act, checkout = [sys.executable, "-P", "-m", "stackyard_infra.suspending"], site.state.parents[1]
    placed = {
        "stack": site.stack,
        "stack_id": site.stack_id,
        "backend": backend_url(checkout),
        "checkout": str(checkout),
        "runtime": str(site.runtime),
        "ray_token": str(folder / "ray-token"),
        "notebook_token": str(folder / "notebook-token"),
        "tag": tag,
        "places": before.get("places") or str(places_folder()),
        "suspend": [*act, "suspend", str(folder)],
        "resume": [*act, "resume", str(folder)],
    }
    return {**told, **placed}


def evacuation(
    site: Site, folder: Path, tag: str, known: Mapping[str, Any], instance: str, generation: int
) -> dict[str, Any]:
    """What is `known` of how to save, made true for where the workspace lies now and who lives in it."""
    keys = site.state / "keys"
    settings = SETTINGS | {
        **known,
        "stack": site.stack,
        "stack_id": site.stack_id,
        "cluster": folder.name,
        "instance": instance,
        "generation": generation,
        "workspace": str(folder / "workspace"),
        "state": str(private_folder(folder / "saver")),
        "receipt_key": str(keys / "receipt-key"),
        "trusted_keys": sorted({public_half(keys / "receipt-key"), *known.get("trusted_keys", [])}),
        "processes_tag": tag,
    }
    if settings["encrypt_key"]:
        settings["encrypt_key"] = str(random_file(keys / "workspace-key"))
    return settings


def refuse_copy(folder: Path, checkout: object) -> None:
    """Raises Refusal where the cluster was made in another `checkout` and the same instance still lives there: what
    carries its tag runs for that one."""
    if not isinstance(checkout, str):
        return
    there = Path(checkout, *folder.parts[-4:])  # .stackyard/STACK/leases/CLUSTER
    mine = its = None
    with contextlib.suppress(OSError):  # another user's is out of reach, and so are its processes
        mine, its = (read_plain(each / "instance.json") for each in (folder, there))
    same = isinstance(mine, dict) and isinstance(its, dict) and mine.get("instance") == its.get("instance")
    if same and not there.samefile(folder):
        raise Refusal(
            f"{folder} is a copy of {there}: to save or end it would end that one's processes. "
            f"`up` in this checkout makes it one of its own."
        )
