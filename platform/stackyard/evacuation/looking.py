"""What would be lost if the workspace went now: whatever does not look as it did when the newest version was made."""

from __future__ import annotations

from dataclasses import dataclass, field

from stackyard.evacuation.cache import Cache, mark_of
from stackyard.evacuation.rules import Rules
from stackyard.evacuation.settings import SaverSettings
from stackyard.evacuation.walking import Unsaved, walk

NAMED = 1000
"""How many are named; all are counted."""


@dataclass
class Pending:
    """What is not in the newest version as it is now."""

    count: int = 0
    size: int = 0
    """Bytes of the files' content."""
    named: list[Unsaved] = field(default_factory=list[Unsaved])

    def add(self, unsaved: Unsaved, size: int = 0) -> None:
        """Count one more."""
        self.count += 1
        self.size += size
        if len(self.named) < NAMED:
            self.named.append(unsaved)


def look(settings: SaverSettings, cache: Cache, *, strict: bool) -> Pending:
    """Compare the workspace with what was saved, by size, times and inode. Raises OSError when it cannot be opened.

    `strict` also counts what may have changed within a tick of the clock. What was deleted is no loss.
    """
    found = Pending()
    for batch in walk(settings.workspace, Rules.of(settings)):
        for trouble in batch.unsaved:
            found.add(trouble)
        rows = cache.entries(batch.folder, batch.after, batch.until)
        for entry in batch.entries:
            size = entry.stat.st_size if entry.kind == "file" else 0
            row = rows.get(entry.name)
            if row is None:
                found.add(Unsaved(entry.path, "new", "it is newer than the newest version"), size)
            elif row.mark != mark_of(entry.stat):
                found.add(Unsaved(entry.path, "changed", "it changed after it was saved"), size)
            elif strict and not row.settled:
                found.add(Unsaved(entry.path, "unsettled", "it may have changed while it was saved"), size)
    return found
