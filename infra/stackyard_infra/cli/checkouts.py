"""The leased clusters that lie in a checkout, whatever its stacks' files say of them now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.workspaces import Workspace


def checkout_of(cwd: Path) -> Path:
    """The checkout around `cwd`. Raises Refusal outside one."""
    checkout = next((each for each in (cwd, *cwd.parents) if (each / "Pulumi.yaml").is_file()), None)
    if checkout is None:
        raise Refusal("There is no Pulumi.yaml here or above: run this inside the checkout.")
    return checkout.resolve()


def workspaces(stack: str, cwd: Path) -> Iterator[Workspace]:
    """Every leased cluster of `stack` in the checkout around `cwd`. Raises Refusal for one that is a copy."""
    yield from map(Workspace.at, folders(stack, cwd))


def folders(stack: str, cwd: Path) -> Iterator[Path]:
    """Where they lie, whatever they are."""
    for folder in sorted((checkout_of(cwd) / ".stackyard" / stack).glob("leases/*/")):
        if any((folder / name).exists() for name in ("evacuation.json", "lease.json")):
            yield folder


def stacks(cwd: Path) -> list[str]:
    """Stacks of the checkout around `cwd` that lent a cluster."""
    return sorted({folder.parents[1].name for folder in (checkout_of(cwd) / ".stackyard").glob("*/leases/*/")})
