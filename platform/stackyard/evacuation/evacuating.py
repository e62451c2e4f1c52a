"""The proof before a workspace may go, as a live migration does it.

Save and verify while all runs; ask trainings for a checkpoint; freeze the writers; save and verify what is left; look
once more that nothing moved; sign the receipt; note the seal. The writers stay stopped. If a step fails they go on as
if nothing had been, and the refusal names what would be lost. Killed anywhere, the next evacuation or thaw finds the
record of who was stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from stackyard.evacuation import asking, failpoints, looking, receipts, versions
from stackyard.evacuation.blobs import Coder
from stackyard.evacuation.cache import TICK, Cache
from stackyard.evacuation.errors import EvacuationError, StoreAwayError, StoreFullError, shown
from stackyard.evacuation.freezing import Freezer, Process, write_whole
from stackyard.evacuation.receipts import Discard, Receipt, Signed
from stackyard.evacuation.saving import Saved, Saver, cache_of, opened, signing_key
from stackyard.evacuation.settings import SaverSettings
from stackyard.evacuation.verifying import Verified, verify
from stackyard.evacuation.walking import Unsaved
from stackyard.store.objects import Store


class Refused(EvacuationError):
    """The workspace may not go; `losses` says what would be lost, and why."""

    code = "refused"

    def __init__(self, message: str, losses: list[Unsaved], more: int = 0) -> None:
        super().__init__(message)
        self.losses, self.more = losses, more


@dataclass
class Allowed:
    """Whether an instance and generation may go."""

    receipt: Signed[Receipt] | None = None
    discard: Signed[Discard] | None = None
    reasons: list[str] = field(default_factory=list[str])
    """Why not."""
    losses: list[Unsaved] = field(default_factory=list[Unsaved])
    more: int = 0
    """Further losses that are not named."""

    @property
    def allowed(self) -> bool:
        """Whether it may."""
        return self.receipt is not None or self.discard is not None


@dataclass(frozen=True)
class Standing:
    """A workspace that stands still, everything of it safe."""

    saved: Saved
    proof: Verified
    frozen: list[Process]
    pieces: int
    """Pieces read back from the store."""


def evacuate(
    settings: SaverSettings, store: Store | None = None, *, pause: Callable[[float], None] = time.sleep
) -> Signed[Receipt]:
    """Prove that everything is in the store and leave the writers stopped. Take `cache.locked` around it.

    Raises Refused with the losses, after letting everybody go on.
    """
    freezer = Freezer(settings)
    try:
        store = store or opened_or_refused(settings)
        given = allowed(settings, store).receipt if sealed(settings) is not None else None
        if given is not None and _reads_back(settings, store, given):
            return given
        safe = _stand_still(settings, store, freezer, pause)
        given = receipts.give(settings, store, signing_key(settings), _receipt(settings, safe))
        failpoints.hit("receipt-stored")
        seal(settings, given.place, safe.proof)
        failpoints.hit("sealed")
    except BaseException:
        if sealed(settings) is None:
            freezer.thaw()
        raise
    return given


def suspend(
    settings: SaverSettings, store: Store | None = None, *, pause: Callable[[float], None] = time.sleep
) -> Standing:
    """As `evacuate`, without a receipt: everything is in the store and the writers stand still, for whoever ends them.

    Raises Refused with the losses, after letting everybody go on; EvacuationError for what is sealed: that may go.
    """
    if (noted := sealed(settings)) is not None:
        raise EvacuationError(f"the workspace is sealed by {noted['receipt']}: nothing of it runs")
    freezer = Freezer(settings)
    try:
        return _stand_still(settings, store or opened_or_refused(settings), freezer, pause)
    except BaseException:
        freezer.thaw()
        raise


def _stand_still(settings: SaverSettings, store: Store, freezer: Freezer, pause: Callable[[float], None]) -> Standing:
    """Save and verify while all runs, ask for checkpoints, freeze, save and verify the rest; see that nothing moved."""
    coder, checked, saver = Coder.of(settings.encrypt_key), set[str](), Saver(settings, store, pause=pause)
    _proven(settings, store, coder, _saved(settings, saver), checked)
    with asking.asked(settings, pause=pause):
        frozen = freezer.freeze()
    pause(2 * TICK / 1e9)  # whatever was written before is then older than the save by more than a tick
    last = _saved(settings, saver)
    if last.unsaved:
        raise Refused("not everything could be saved", last.unsaved)
    proof = _proven(settings, store, coder, last, checked)
    failpoints.hit("difference-verified")
    _still(settings, coder)
    return Standing(last, proof, frozen, len(checked))


def allowed(settings: SaverSettings, store: Store | None = None) -> Allowed:
    """Whether a valid receipt or discard is there and, for a receipt, whether nothing changed since."""
    found = Allowed()
    try:
        store = store or opened(settings)
    except (StoreAwayError, StoreFullError) as error:
        found.reasons.append(str(error))
    try:
        found.discard = next(receipts.discards(settings, store), None)
        given = receipts.receipts(settings, store) if store is not None else []
    except (StoreAwayError, StoreFullError) as error:
        found.reasons.append(str(error))
        return found
    if not given:
        if store is not None:
            found.reasons.append(
                f"there is no receipt for instance {settings.instance}, generation {settings.generation}"
            )
        return found
    if not settings.workspace.exists():
        found.receipt = given[0]
        return found
    with closing(cache_of(settings, Coder.of(settings.encrypt_key))) as cache:
        pending = looking.look(settings, cache, strict=True)
        noted = json.loads(cache.note("newest") or "[0, null]")
    held = next((each for each in given if each.body.manifest == noted[1]), None)
    if pending.count:
        found.reasons.append(f"{pending.count} entries changed after the receipt was given")
        found.losses, found.more = pending.named, pending.count - len(pending.named)
    elif held is None:
        found.reasons.append(f"version {noted[0]} was saved after the receipt was given: evacuate again")
    else:
        found.receipt = held
    return found


def seal(settings: SaverSettings, receipt: str, proof: Verified) -> None:
    """Note that this instance and generation stands still for good."""
    noted = {
        "instance": settings.instance,
        "generation": settings.generation,
        "receipt": receipt,
        "version": proof.found.version.number,
        "sealed": versions.text(versions.now()),
    }
    write_whole(settings.state / "sealed.json", json.dumps(noted).encode())


def sealed(settings: SaverSettings) -> dict[str, Any] | None:
    """The seal of this instance and generation; None when there is none."""
    try:
        noted = json.loads((settings.state / "sealed.json").read_bytes())
    except (OSError, ValueError):
        return None
    same = (noted.get("instance"), noted.get("generation")) == (settings.instance, settings.generation)
    return noted if same else None


def thaw(settings: SaverSettings) -> list[Process]:
    """Let the writers go on. Raises EvacuationError while this instance and generation is sealed."""
    if (noted := sealed(settings)) is not None:
        raise EvacuationError(
            f"the workspace is sealed by {noted['receipt']}: it may go, so nothing may be written to it any more; "
            "creating the gate again unseals it with a new generation"
        )
    freed = Freezer(settings).thaw()
    (settings.state / "sealed.json").unlink(missing_ok=True)  # of an earlier generation
    return freed


def opened_or_refused(settings: SaverSettings) -> Store:
    """The store. Raises Refused when it cannot be opened."""
    try:
        return opened(settings)
    except EvacuationError as error:
        raise _refusal(settings, error) from error


def _saved(settings: SaverSettings, saver: Saver) -> Saved:
    try:
        return saver.save()
    except EvacuationError as error:
        raise _refusal(settings, error) from error


def _refusal(settings: SaverSettings, error: EvacuationError) -> Refused:
    """Why nothing could be saved, and what that would lose."""
    try:
        with closing(cache_of(settings, Coder.of(settings.encrypt_key))) as cache:
            pending = looking.look(settings, cache, strict=False)
    except (OSError, EvacuationError):
        return Refused(str(error), [])
    return Refused(str(error), pending.named, pending.count - len(pending.named))


def _proven(settings: SaverSettings, store: Store, coder: Coder, saved: Saved, checked: set[str]) -> Verified:
    proof = verify(settings, store, coder, saved.newest, checked)
    if not proof.whole:
        with closing(cache_of(settings, coder)) as cache:
            distrust(cache, proof)
        losses = [Unsaved(path or b"", "damaged", f"its stored copy is damaged: {why}") for path, why in proof.damaged]
        raise Refused("what is in the store is not what was saved; the next save stores it anew", losses)
    return proof


def _reads_back(settings: SaverSettings, store: Store, given: Signed[Receipt]) -> bool:
    """Whether what a receipt was given for is still whole: a store may rot between two commands."""
    coder = Coder.of(settings.encrypt_key)
    proof = verify(settings, store, coder, receipts.version_of(settings, store, given.body))
    if not proof.whole:
        with closing(cache_of(settings, coder)) as cache:
            distrust(cache, proof)
    return proof.whole


def distrust(cache: Cache, proof: Verified) -> None:
    """Have the next save store again what was found damaged."""
    cache.distrust(proof.packs)
    cache.commit()


def _still(settings: SaverSettings, coder: Coder) -> None:
    with closing(cache_of(settings, coder)) as cache:
        pending = looking.look(settings, cache, strict=True)
    if pending.count:
        first = shown(pending.named[0].path)
        raise Refused(
            f"something that could not be stopped still writes to the workspace ({first})",
            pending.named,
            pending.count - len(pending.named),
        )


def _receipt(settings: SaverSettings, safe: Standing) -> Receipt:
    version = safe.saved.newest.version
    return Receipt(
        stack=settings.stack,
        stack_id=settings.stack_id,
        cluster=settings.cluster,
        instance=settings.instance,
        generation=settings.generation,
        created=versions.text(versions.now()),
        workspace=version.number,
        manifest=safe.saved.newest.digest,
        entries=version.entries,
        files=version.files,
        size=version.size,
        left_out=version.left_out,
        exclude=list(settings.exclude),
        include=list(settings.include),
        largest=settings.largest,
        same_disk=settings.same_disk(),
        frozen=len(safe.frozen),
        pieces=safe.pieces,
    )
