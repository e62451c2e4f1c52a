"""Proof that a version can be had back: everything it names is read from the store, decoded and held to its digest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from stackyard.evacuation import versions
from stackyard.evacuation.blobs import Coder, Ref
from stackyard.evacuation.errors import DamageError, SettingsError
from stackyard.evacuation.listing import Listing, bytes_of, entries_of, refs_of
from stackyard.evacuation.packs import Fetcher
from stackyard.evacuation.settings import SaverSettings
from stackyard.evacuation.versions import Found
from stackyard.store.objects import Store


@dataclass
class Verified:
    """What was read back. `damaged`: path (None: the version's own listing) and reason."""

    found: Found
    pieces: int = 0
    size: int = 0
    """Bytes of the pieces' content."""
    damaged: list[tuple[bytes | None, str]] = field(default_factory=list[tuple[bytes | None, str]])
    packs: set[str] = field(default_factory=set[str])
    """Packs in which something is damaged."""

    @property
    def whole(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damaged


def verify(
    settings: SaverSettings, store: Store, coder: Coder, found: Found, checked: set[str] | None = None
) -> Verified:
    """Read back everything that version `found` names, but pieces whose ids are in `checked`, which grows."""
    fitting(coder, found)
    result, fetcher = Verified(found), Fetcher(store, settings.cluster, coder)
    checked = set() if checked is None else checked
    _follows(settings, store, result)
    version = found.version
    _read(fetcher, [(None, [version.report_ref])], checked, result)
    try:
        listing = Listing(fetcher, version.root_ref)
    except (DamageError, KeyError, ValueError) as error:
        result.damaged.append((None, f"the listing: {error}"))
        result.packs.add(version.root_ref.pack)
        return result
    _read(fetcher, [(f"extra {each['name']}".encode(), refs_of(each)) for each in listing.extras], checked, result)
    for segment in listing.segments:
        try:
            entries = entries_of(fetcher.one(segment))
        except DamageError as error:
            result.damaged.append((None, f"a part of the listing: {error}"))
            result.packs.add(segment.pack)
            continue
        _read(fetcher, [(bytes_of(entry["p"]), refs_of(entry)) for entry in entries], checked, result)
    return result


def fitting(coder: Coder, found: Found) -> None:
    """Raise SettingsError unless the key at hand is the one that the version was made with."""
    want, have = found.version.encryption, coder.plain
    if want != have:
        number = found.version.number
        problem = "is not encrypted, and the settings name a key" if want is None else "is encrypted with another key"
        if want is not None and have is None:
            problem = "is encrypted: the settings must name its key (`encrypt_key`)"
        raise SettingsError(f"version {number} {problem}")


def _follows(settings: SaverSettings, store: Store, result: Verified) -> None:
    """Whether the manifest before, if it is still there, is the one that this one names."""
    version = result.found.version
    for number in reversed([n for n in versions.numbers(store, settings.cluster) if n < version.number]):
        try:
            before = versions.read(store, settings.cluster, number, settings.trusted_keys)
        except DamageError:
            continue
        if before.digest != version.previous:
            result.damaged.append((None, f"version {number} is not the one that version {version.number} follows"))
        return


def _read(
    fetcher: Fetcher, wanted: Iterable[tuple[bytes | None, list[Ref]]], checked: set[str], result: Verified
) -> None:
    owner: dict[Ref, bytes | None] = {}
    for path, refs in wanted:
        for ref in refs:
            if ref.id not in checked:
                owner.setdefault(ref, path)
    for ref, data in fetcher.many(owner):
        if isinstance(data, DamageError):
            result.damaged.append((owner[ref], str(data)))
            result.packs.add(ref.pack)
        else:
            checked.add(ref.id)
            result.pieces += 1
            result.size += ref.size
