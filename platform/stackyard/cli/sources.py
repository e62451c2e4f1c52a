"""Where saved workspaces may be had from: the stacks of this checkout, those that were destroyed included.

A destroy leaves the artifact store and `.stackyard/<stack>/keys`: the public half of its receipt key says whom to
trust, its workspace key opens what was encrypted. So nothing of the cluster needs to be there any more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackyard.cli.failures import Failure
from stackyard.evacuation import versions
from stackyard.evacuation.errors import DamageError, EvacuationError
from stackyard.evacuation.settings import SaverSettings
from stackyard.evacuation.versions import Version
from stackyard.spec import SpecError, find_stack, load
from stackyard.store.documents import public_text
from stackyard.store.keys import KeyFileError, ensure_signing_key
from stackyard.store.objects import Store


@dataclass(frozen=True)
class Source:
    """A stack's store, and whom it trusts."""

    stack: str
    state: Path
    location: str
    """Folder or URL of its store."""
    trusted: tuple[str, ...]

    def open(self) -> Store:
        """The store. Raises Failure when it is away: looking must not make an empty one."""
        if "://" not in self.location and not Path(self.location).is_dir():
            raise Failure(f"the store of stack {self.stack}, {self.location}, is away")
        return Store.open(self.location)

    def clusters(self) -> list[str]:
        """The clusters of which something was saved."""
        return self.open().folders("workspaces")

    def newest(self, cluster: str, *, but: str | None) -> Version | None:
        """The newest version of `cluster` that can be trusted, and is not of the instance `but`."""
        store = self.open()
        for number in reversed(versions.numbers(store, cluster)):
            try:
                found = versions.read(store, cluster, number, self.trusted).version
            except DamageError:
                continue
            if found.instance != but:
                return found
        return None

    def version(self, cluster: str, number: int) -> Version | None:
        """A version of `cluster`; None when there is none that can be trusted."""
        try:
            return versions.read(self.open(), cluster, number, self.trusted).version
        except EvacuationError:
            return None

    def settings(self, cluster: str, into: SaverSettings) -> SaverSettings:
        """What reads `cluster` from here, on its way to the workspace of `into`."""
        secret = self.state / "keys" / "workspace-key"
        told = {"stack": self.stack, "cluster": cluster, "store": self.location, "trusted_keys": self.trusted}
        return into.model_copy(update={**told, "encrypt_key": secret if secret.exists() else None})


def sources(checkout: Path) -> Iterator[Source]:
    """Every stack of `checkout` that has evacuated or saved a workspace, whether or not it is up."""
    for key in sorted(checkout.glob(".stackyard/*/keys/receipt-key")):
        state = key.parent.parent
        told = [_plain(path) for path in sorted(state.glob("leases/*/evacuation.json"))]
        try:
            mine = public_text(ensure_signing_key(key).public_key())
        except (KeyFileError, OSError, ValueError) as error:
            raise Failure(f"the receipt key of stack {state.name} cannot be used: {error}") from None
        trusted = {mine, *(each for one in told for each in one.get("trusted_keys", []))}
        yield Source(state.name, state, _location(checkout, state, told), tuple(sorted(trusted)))


def lent(checkout: Path, stack: str, cluster: str) -> SaverSettings:
    """The settings of a leased cluster that lies in this checkout, true for where it lies now. Raises Failure."""
    state = checkout / ".stackyard" / stack
    folder = state / "leases" / cluster
    told = _plain(folder / "evacuation.json")
    if not told:
        known = ", ".join(sorted(path.parent.name for path in state.glob("leases/*/evacuation.json")))
        there = f"; it has {known}" if known else f"; `pulumi up -s {stack}` makes those of its file"
        raise Failure(f"stack {stack} has no leased cluster {cluster}{there}")
    here = {"workspace": folder / "workspace", "state": folder / "saver", "receipt_key": state / "keys" / "receipt-key"}
    try:
        return SaverSettings.model_validate({**told, **{name: str(path) for name, path in here.items()}})
    except ValueError as error:
        reason = str(error).splitlines()[-1].strip()
        raise Failure(f"{folder / 'evacuation.json'} is no saver's settings: {reason}") from None


def _location(checkout: Path, state: Path, told: list[dict[str, Any]]) -> str:
    """The store of a stack: as its clusters know it, its card, its file, and else where stores are by default."""
    known = [*told, _plain(state / "stack.json")]
    try:
        spec = load(find_stack(state.name, checkout))
        path = spec.environment.store.path
        known.append({"store": None if path is None else str((spec.file.parent / path).resolve())})
    except SpecError:  # a stack whose file was taken away can still be restored from
        pass
    places = [str(each["store"]) for each in known if each.get("store")]
    return next((place for place in places if "://" in place or Path(place).is_dir()), str(state / "store"))


def _plain(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
