"""The leased clusters that lie in a checkout, whatever its stacks' files say of them now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stackyard.spec import find_stack
from stackyard_infra.provider import notes
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.ledgers import moved
from stackyard_infra.provider.private import write_plain
from stackyard_infra.provider.workspaces import Workspace


def checkout_of(cwd: Path) -> Path:
    """The checkout around `cwd`. Raises Refusal outside one."""
    checkout = next((each for each in (cwd, *cwd.parents) if (each / "Pulumi.yaml").is_file()), None)
    if checkout is None:
        raise Refusal("There is no Pulumi.yaml here or above: run this inside the checkout.")
    return checkout.resolve()


def refuse_unknown(stack: str, cwd: Path) -> None:
    """Raises SpecError for a stack that has no file and lent nothing: of a slip of the pen nothing is ever ended."""
    if not (checkout_of(cwd) / ".stackyard" / stack / "leases").is_dir():
        find_stack(stack, cwd)


def workspaces(stack: str, cwd: Path) -> Iterator[Workspace]:
    """Every leased cluster of `stack` in the checkout around `cwd`, what is kept beside it being true for where it lies
    now. Raises Refusal for one that is a copy."""
    for folder in folders(stack, cwd):
        here = Workspace.at(folder)
        _settle(here)
        yield here


def folders(stack: str, cwd: Path) -> Iterator[Path]:
    """Where they lie, whatever they are."""
    for folder in sorted((checkout_of(cwd) / ".stackyard" / stack).glob("leases/*/")):
        if any((folder / name).exists() for name in ("evacuation.json", "lease.json")):
            yield folder


def stacks(cwd: Path) -> list[str]:
    """Stacks of the checkout around `cwd` that lent a cluster."""
    return sorted({folder.parents[1].name for folder in (checkout_of(cwd) / ".stackyard").glob("*/leases/*/")})


def _settle(here: Workspace) -> None:
    """After a move of the checkout: have lease and settings name where the cluster lies now, and how it is ended."""
    before, state = here.lease(), here.site.state
    if before.get("checkout") in (None, str(state.parents[1])) or here.record() is None:
        return  # settings without a record would make another instance
    with here.held():
        was = Path(before["checkout"], *state.parts[-2:])  # .stackyard/STACK
        told = moved(before | {"state": str(was)}, state)
        del told["state"]
        now = notes.lease(here.site, here.folder, here.tag, told, before)
        write_plain(here.folder / "lease.json", now | {"backend": before.get("backend")})
        here.prepare()
