"""`stackyard restore`: a saved workspace, of this stack or another, into a cluster in which nobody worked yet."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackyard.cli import stack as stacks
from stackyard.cli.failures import BUSY, FAILED, USAGE, Failure
from stackyard.cli.sources import Source, lent, sources
from stackyard.evacuation.errors import EvacuationError
from stackyard.evacuation.settings import SaverSettings
from stackyard.evacuation.versions import Version


@dataclass(frozen=True)
class Choice:
    """What is to be restored, and from where."""

    source: Source
    cluster: str
    what: str
    """`v7`, or the store's key of a receipt."""
    version: Version | None = None

    def shown(self) -> str:
        """For people to choose by."""
        saved = "" if self.version is None else f", version {self.version.number} of {self.version.finished[:19]}"
        return f"--from {self.source.stack} --of {self.cluster}{saved}"


def run(what: str, stack: str, to: str, *, from_: str | None, of: str | None, as_json: bool) -> None:
    """Restore it and say what came. Raises Failure: 1 refused, failed or damaged, 2 no such thing, 4 another runs."""
    checkout = stacks.checkout()
    into = lent(checkout, stack, to)
    choice = _chosen(checkout, what, into, from_, of)
    print(f"restore: {choice.shown().removeprefix('--')}", file=sys.stderr)
    code, told = _restored(choice, into)
    told |= {"to": {"stack": stack, "cluster": to}, "from": {"stack": choice.source.stack, "cluster": choice.cluster}}
    if as_json:
        print(json.dumps(told))
    elif told.get("version"):
        _show(told, into)
    if code:
        busy = told.get("code") == "busy"
        raise Failure(str(told.get("reason") or "not everything came back"), BUSY if busy else FAILED)


def _restored(choice: Choice, into: SaverSettings) -> tuple[int, dict[str, Any]]:
    """What the evacuation says; its progress goes to standard error as it comes."""
    with tempfile.TemporaryDirectory(prefix="stackyard-restore-") as folder:
        source, target = Path(folder, "source.json"), Path(folder, "into.json")
        source.write_text(choice.source.settings(choice.cluster, into).model_dump_json())
        target.write_text(into.model_dump_json())
        module = [sys.executable, "-P", "-m", "stackyard.evacuation"]
        command = [*module, "restore", str(source), choice.what, "--into", str(target), "--json"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    lines = done.stdout.strip().splitlines()
    if not lines:
        raise Failure(f"the restore ended before its time (exit code {done.returncode}); nothing half restored is used")
    return done.returncode, json.loads(lines[-1])


def _chosen(checkout: Path, what: str, into: SaverSettings, from_: str | None, of: str | None) -> Choice:
    known = list(sources(checkout))
    if from_ is not None and from_ not in {each.stack for each in known}:
        raise Failure(f"nothing was saved by a stack {from_} here; {_listed(known)}", USAGE)
    asked = [each for each in known if from_ in (None, each.stack)]
    if what == "latest" or what.removeprefix("v").isdecimal():
        found = [choice for each in asked for choice in _versions(each, what, into, of, explicit=from_ is not None)]
    else:
        found = _receipts(asked, what, of)
    if not found:
        where = f" in stack {from_}" if from_ else ""
        raise Failure(f"there is no {what} to restore{where}{f' of cluster {of}' if of else ''}; {_listed(known)}")
    if len(found) > 1:
        raise Failure(f"{what} is not clear, say which: {'; '.join(each.shown() for each in found)}", USAGE)
    return found[0]


def _versions(source: Source, what: str, into: SaverSettings, of: str | None, *, explicit: bool) -> list[Choice]:
    """What `latest` or a number may mean in one stack."""
    try:
        there = source.clusters()
    except (Failure, EvacuationError):
        if explicit:
            raise
        return []
    wanted = of or (into.cluster if into.cluster in there else None)
    names = [name for name in there if wanted in (None, name)]
    found = []
    for name in names:
        mine = (source.stack, name) == (into.stack, into.cluster)
        version = (
            source.newest(name, but=into.instance if mine else None)
            if what == "latest"
            else source.version(name, int(what.removeprefix("v")))
        )
        if version is not None:
            found.append(Choice(source, name, f"v{version.number}", version))
    return found


def _receipts(asked: list[Source], what: str, of: str | None) -> list[Choice]:
    """The stacks in whose store the receipt `what` lies: a key of the store, or a file of it."""
    found = []
    for source in asked:
        key = _key(source, what)
        if key is None:
            continue
        parts = key.split("/")
        if len(parts) == 3 and of in (None, parts[1]):
            found.append(Choice(source, parts[1], key))
    return found


def _key(source: Source, what: str) -> str | None:
    path, place = Path(what), Path(source.location)
    if path.is_file() and "://" not in source.location and path.resolve().is_relative_to(place.resolve()):
        key = path.resolve().relative_to(place.resolve()).as_posix()
    else:
        key = what
    if not key.startswith("receipts/"):
        return None
    try:
        return key if source.open().exists(key) else None
    except Failure:
        return None


def _listed(known: list[Source]) -> str:
    names = []
    for source in known:
        try:
            clusters = source.clusters()
        except (Failure, EvacuationError):
            continue
        names += [f"{source.stack} ({', '.join(clusters)})"] if clusters else []
    return f"saved were {'; '.join(names)}" if names else "nothing was saved in this checkout"


def _show(told: dict[str, Any], into: SaverSettings) -> None:
    version, origin, to = told["version"], told["from"], told["to"]
    print(
        f"{to['cluster']}: version {version['number']} of {origin['cluster']} (stack {origin['stack']}, saved "
        f"{version['finished'][:19].replace('T', ' ')} UTC) is in {into.workspace}: {told['entries']} entries, "
        f"{told['size']} bytes; the next save makes it part of stack {to['stack']}"
    )
    for each in [*told["losses"], *told["lesser"]][:20]:
        print(f"  {each['path']}: {each['reason']}")
    if (more := len(told["losses"]) + len(told["lesser"]) - 20) > 0:
        print(f"  and {more} more (--json names them)")
